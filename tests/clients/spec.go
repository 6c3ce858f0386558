// The specification for pgx, shortened: started by tests/clients/main.rs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	tenant "cgk/tenant"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4/pgxpool"
)

var ctx = context.Background()
var passed, failed int

func check(name string, body func() error) {
	if err := body(); err != nil {
		failed++
		fmt.Printf("FAILED %s: %v\n", name, err)
	} else {
		passed++
		fmt.Printf("ok %s\n", name)
	}
}

func fails(code string, err error) error {
	var server *pgconn.PgError
	if !errors.As(err, &server) || server.Code != code {
		return fmt.Errorf("expected %s, got %v", code, err)
	}
	return nil
}

func main() {
	config, err := pgxpool.ParseConfig("")
	if err != nil {
		panic(err)
	}
	config.MaxConns = 8
	config.ConnConfig.PreferSimpleProtocol = true
	pool, err := pgxpool.ConnectConfig(ctx, config)
	if err != nil {
		panic(err)
	}
	run := func(slug string, statements ...string) (tag string, err error) {
		err = tenant.With(ctx, pool, slug, func(tx *tenant.Tx) error {
			for _, sql := range statements {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return err
				}
			}
			return tx.QueryRow(ctx, "select tag from marks where n = 0").Scan(&tag)
		})
		return
	}
	clean := func() error {
		for i := 0; i < 16; i++ {
			var user, mark string
			sql := "select current_user::text, coalesce(current_setting('cgk.tenant', true), '')"
			if err := pool.QueryRow(ctx, sql).Scan(&user, &mark); err != nil {
				return err
			}
			if user != os.Getenv("PGUSER") || mark != "" {
				return fmt.Errorf("unclean: %s %s", user, mark)
			}
		}
		return nil
	}
	check("two statements and a commit", func() error {
		if tag, err := run("acme", "insert into marks (tag, n) values ('own', 1)"); err != nil || tag != "acme" {
			return fmt.Errorf("%s %v", tag, err)
		}
		return clean()
	})
	for sql, code := range map[string]string{
		"select * from tenant_globex.marks":                  "42501",
		"select 1 / 0":                                       "22012",
		"select set_config('search_path', 'public', true)":   "42P01",
		"select public.cgk_enter('globex')":                  "TN405",
		"insert into marks (tag, n) values ('again', 1)":     "23505",
	} {
		check(sql, func() error {
			_, err := run("acme", sql)
			if err := fails(code, err); err != nil {
				return err
			}
			return clean()
		})
	}
	check("a transaction that left its tenant is not committed", func() error {
		err := tenant.With(ctx, pool, "acme", func(tx *tenant.Tx) error {
			_, err := tx.Exec(ctx, "reset role")
			return err
		})
		return fails("TN501", err)
	})
	for slug, code := range map[string]string{"nope": "TN401", "sleepy": "TN402", "newcomer": "TN403"} {
		check(slug, func() error { _, err := run(slug); return fails(code, err) })
	}
	check("a transaction that is kept refuses statements after its end", func() error {
		var kept *tenant.Tx
		err := tenant.With(ctx, pool, "acme", func(tx *tenant.Tx) error { kept = tx; return nil })
		if err != nil {
			return err
		}
		late := func() error {
			_, inExec := kept.Exec(ctx, "insert into marks (tag, n) values ('late', 70)")
			_, inQuery := kept.Query(ctx, "insert into marks (tag, n) values ('late', 70) returning n")
			var n int
			inRow := kept.QueryRow(ctx, "insert into marks (tag, n) values ('late', 70) returning n").Scan(&n)
			for _, err := range []error{inExec, inQuery, inRow} {
				if err == nil || err.Error() != "the tenant's transaction has ended" {
					return fmt.Errorf("late: %v", err)
				}
			}
			return nil
		}
		return tenant.With(ctx, pool, "globex", func(tx *tenant.Tx) error {
			if err := late(); err != nil {
				return err
			}
			var count int
			if err := tx.QueryRow(ctx, "select count(*) from marks where n = 70").Scan(&count); err != nil || count != 0 {
				return fmt.Errorf("%d late rows: %v", count, err)
			}
			return nil
		})
	})
	check("an own commit is an error", func() error {
		err := tenant.With(ctx, pool, "acme", func(tx *tenant.Tx) error {
			_, err := tx.Exec(ctx, "commit")
			return err
		})
		if err := fails("TN501", err); err != nil {
			return err
		}
		return clean()
	})
	check("a cancelled context leaves nothing", func() error {
		inner, cancel := context.WithCancel(ctx)
		err := tenant.With(inner, pool, "acme", func(tx *tenant.Tx) error {
			cancel()
			_, err := tx.Exec(inner, "select 1")
			return err
		})
		if err == nil {
			return errors.New("no error")
		}
		return clean()
	})
	count, _ := strconv.Atoi(os.Getenv("CGK_CLIENT_ALTERNATIONS"))
	check(fmt.Sprintf("%d alternating transactions on 8 connections", count), func() error {
		var group sync.WaitGroup
		wrong := make([]error, 8)
		for worker := 0; worker < 8; worker++ {
			group.Add(1)
			go func(worker int) {
				defer group.Done()
				for i := worker; i < count; i += 8 {
					slug := []string{"acme", "globex"}[(i+i/8)%2]
					if tag, err := run(slug); err != nil || tag != slug {
						wrong[worker] = fmt.Errorf("%s in %s: %v", tag, slug, err)
					}
				}
			}(worker)
		}
		group.Wait()
		for _, err := range wrong {
			if err != nil {
				return err
			}
		}
		return nil
	})
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
