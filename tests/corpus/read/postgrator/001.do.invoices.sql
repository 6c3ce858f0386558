create table invoices (id bigint primary key, total bigint not null);
