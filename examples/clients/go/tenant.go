// Package tenant runs transactions in a tenant on a pool of pgx. Tested with pgx v4; in v5 the import paths end in v5.
package tenant

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

// Tx refuses statements after the transaction, which With ends. It is the DBTX of code that sqlc generates.
type Tx struct {
	tx    pgx.Tx
	ended atomic.Bool
}

var errEnded = errors.New("the tenant's transaction has ended")

func (t *Tx) Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error) {
	if t.ended.Load() {
		return nil, errEnded
	}
	return t.tx.Exec(ctx, sql, arguments...)
}

func (t *Tx) Query(ctx context.Context, sql string, arguments ...any) (pgx.Rows, error) {
	if t.ended.Load() {
		return nil, errEnded
	}
	return t.tx.Query(ctx, sql, arguments...)
}

func (t *Tx) QueryRow(ctx context.Context, sql string, arguments ...any) pgx.Row {
	if t.ended.Load() {
		return endedRow{}
	}
	return t.tx.QueryRow(ctx, sql, arguments...)
}

type endedRow struct{}

func (endedRow) Scan(...any) error { return errEnded }

// With commits if body returns nil. Set the pool's PreferSimpleProtocol (v5: QueryExecModeExec): see "Prepared statements".
func With(ctx context.Context, pool *pgxpool.Pool, slug string, body func(*Tx) error) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.Background()) // after a commit this does nothing
	if _, err := tx.Exec(ctx, "select public.cgk_enter($1)", slug); err != nil {
		return err
	}
	inside := &Tx{tx: tx}
	defer inside.ended.Store(true) // also if body panics
	if err := body(inside); err != nil {
		return err
	}
	inside.ended.Store(true)
	if _, err := tx.Exec(ctx, "select public.cgk_check($1)", slug); err != nil {
		return err
	}
	return tx.Commit(ctx)
}
