-- What every table of yours can use: a trigger function that keeps the column updated_at.
--
--     create table invoices (
--         id         uuid        not null default gen_random_uuid() primary key,
--         created_at timestamptz not null default now(),
--         updated_at timestamptz not null default now()
--     );
--
--     create trigger invoices_keep_updated_at
--         before update on invoices
--         for each row execute function keep_updated_at();

create function keep_updated_at() returns trigger
    language plpgsql
as $$
begin
    new.updated_at := current_timestamp;
    return new;
end
$$;
