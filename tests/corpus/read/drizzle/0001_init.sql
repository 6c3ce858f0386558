create table invoices (id bigint primary key, total bigint not null);--> statement-breakpoint
create index invoices_total_idx on invoices (total);
