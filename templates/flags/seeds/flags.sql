-- Rows for a first look. `cgk tenant:seed acme` inserts them into the tenant acme, once.

insert into features (key, name) values ('dark_mode', 'Dark mode');
insert into features (key, name, kind, percentage, enabled) values ('recommendations', 'Recommendations', 'percentage', 12.5, true);

-- Dark mode is on in dev, and in prod for the staff only.
insert into feature_rules (feature_id, environment_id, position, enabled, conditions)
select f.id, e.id, 1, true, r.conditions::jsonb
  from features f, environments e,
       (values ('dev', '[]'),
               ('prod', '[{"attribute": "email", "operator": "ends_with", "values": ["@example.com"]}]')) as r (name, conditions)
 where f.key = 'dark_mode' and e.project = 'default' and e.name = r.name;
