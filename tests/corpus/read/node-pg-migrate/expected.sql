create table invoices (id bigint primary key, total bigint not null);
create index invoices_total_idx on invoices (total);
create function total_of(i bigint) returns bigint language plpgsql as $$
begin
    -- rollback
    return (select total from invoices where id = i);
end $$;
