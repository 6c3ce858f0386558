-- Rows for a first look. `cgk tenant:seed acme` inserts them into the tenant acme, once.

insert into projects (name, description)
values ('Handbook', 'How we work'), ('Shop', 'Everything at shop.example.com');

insert into repositories (project_id, name, remote_url)
select id, 'pages', 'https://git.example.com/' || lower(name) || '.git' from projects where name in ('Handbook', 'Shop');
