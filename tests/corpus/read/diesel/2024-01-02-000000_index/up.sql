create index concurrently invoices_total_idx on invoices (total);
