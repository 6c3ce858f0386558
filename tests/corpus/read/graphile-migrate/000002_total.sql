--! Previous: sha1:abc
--! Hash: sha1:def
--! Message: total
create function total_of(i bigint) returns bigint language plpgsql as $$
begin
    -- rollback
    return (select total from invoices where id = i);
end $$;
