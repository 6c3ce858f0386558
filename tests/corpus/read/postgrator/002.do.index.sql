create index invoices_total_idx on invoices (total);
