// Package tenant runs transactions in a tenant on a pool of pgx. Tested with pgx v4; in v5 the import paths end in v5.
package tenant

import (
	"context"

	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

// With commits if body returns nil. Set the pool's PreferSimpleProtocol (v5: QueryExecModeExec): see "Prepared statements".
func With(ctx context.Context, pool *pgxpool.Pool, slug string, body func(pgx.Tx) error) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.Background()) // after a commit this does nothing
	if _, err := tx.Exec(ctx, "select public.cgk_enter($1)", slug); err != nil {
		return err
	}
	if err := body(tx); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "select public.cgk_check($1)", slug); err != nil {
		return err
	}
	return tx.Commit(ctx)
}
