create function total_of(i bigint) returns bigint language plpgsql as $$
begin
    -- rollback
    return (select total from invoices where id = i);
end $$;
