-- The tenant's role is told by the tag that the database has written down, and no longer by the name of the database: a
-- renamed database keeps its tenants, and in a copy nobody is a tenant until the copy has an identity of its own.
--
-- public.cgk_database_tag() is made by `cgk setup:database`, and by `cgk migrate` before it comes to this migration.
create or replace function current_tenant_slug() returns text
    stable parallel safe
    return case
        when starts_with(current_user::text, 'cgk_')
             and right(current_user::text, 11) = '_' || public.cgk_database_tag()
             and length(current_user::text) > 15
        then substr(current_user::text, 5, length(current_user::text) - 15)
    end;
