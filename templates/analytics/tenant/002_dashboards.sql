-- Dashboards and their widgets.

create table dashboards (
    id          uuid        not null default gen_random_uuid(),
    org_id      uuid        not null default nullif(current_setting('app.current_organization_id', true), '')::uuid,
    name        text        not null,
    description text        not null default '',
    created_by  uuid        not null,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),

    constraint dashboards_pkey     primary key (id),
    constraint dashboards_name_key unique (name),

    constraint dashboards_name_check        check (char_length(name) between 1 and 200 and name = btrim(name)),
    constraint dashboards_description_check check (char_length(description) <= 5000)
);

create trigger dashboards_check_org_id
    before insert or update on dashboards
    for each row execute function analytics_check_org_id();

create trigger dashboards_touch_updated_at
    before update on dashboards
    for each row execute function analytics_touch_updated_at();

create function analytics_is_aggregate(value jsonb) returns boolean
    language sql immutable parallel safe
    return analytics_is_one_of(value, '{count,count_distinct,sum,average,minimum,maximum}');

-- {"column": "amount", "aggregate": "sum", "label": "Revenue"}
create function analytics_is_series(value jsonb) returns boolean
    language sql immutable parallel safe
    return analytics_has_keys(value, '{column,aggregate}', '{label}')
       and analytics_is_column_name(value -> 'column')
       and analytics_is_aggregate(value -> 'aggregate')
       and (not value ? 'label' or analytics_is_label(value -> 'label'));

-- {"column": "amount", "direction": "descending"}
create function analytics_is_sort(value jsonb) returns boolean
    language sql immutable parallel safe
    return analytics_has_keys(value, '{column,direction}')
       and analytics_is_column_name(value -> 'column')
       and analytics_is_one_of(value -> 'direction', '{ascending,descending}');

-- What a widget shows, by its type: number, table, chart or text.
create function analytics_is_widget_config(value jsonb) returns boolean
    language sql immutable parallel safe
    return case when jsonb_typeof(value) <> 'object' then false
                else coalesce(case value -> 'type'
                    when '"number"' then analytics_has_keys(value, '{type,column,aggregate}', '{unit}')
                                         and analytics_is_column_name(value -> 'column')
                                         and analytics_is_aggregate(value -> 'aggregate')
                                         and (not value ? 'unit' or analytics_is_label(value -> 'unit'))
                    when '"table"'  then analytics_has_keys(value, '{type,columns,rows_max}', '{sort}')
                                         and analytics_are_column_names(value -> 'columns', 50)
                                         and analytics_is_integer(value -> 'rows_max', 1, 1000)
                                         and (not value ? 'sort' or analytics_is_sort(value -> 'sort'))
                    when '"chart"'  then analytics_has_keys(value, '{type,shape,x,series,stacked}')
                                         and analytics_is_one_of(value -> 'shape', '{line,bar,area,pie}')
                                         and analytics_is_column_name(value -> 'x')
                                         and case when analytics_is_array(value -> 'series', 1, 10)
                                                  then not exists (select from jsonb_array_elements(value -> 'series') i (item)
                                                                    where not analytics_is_series(i.item))
                                                  else false end
                                         and jsonb_typeof(value -> 'stacked') = 'boolean'
                    when '"text"'   then analytics_has_keys(value, '{type,markdown}')
                                         and jsonb_typeof(value -> 'markdown') = 'string'
                                         and char_length(value ->> 'markdown') between 1 and 10000
                    else false end, false) end;

-- {"type": "equals", "column": "country", "value": "DE"}, or of type one_of or between.
create function analytics_is_filter(value jsonb) returns boolean
    language sql immutable parallel safe
    return case when jsonb_typeof(value) <> 'object' then false
                else coalesce(analytics_is_column_name(value -> 'column') and case value -> 'type'
                    when '"equals"'  then analytics_has_keys(value, '{type,column,value}')
                                          and (analytics_is_label(value -> 'value') or analytics_is_number(value -> 'value')
                                               or jsonb_typeof(value -> 'value') = 'boolean')
                    when '"one_of"'  then analytics_has_keys(value, '{type,column,values}')
                                          and case when analytics_is_array(value -> 'values', 1, 100)
                                                   then not exists (select from jsonb_array_elements(value -> 'values') i (item)
                                                                     where not analytics_is_label(i.item))
                                                   else false end
                    when '"between"' then analytics_has_keys(value, '{type,column,low,high}')
                                          and analytics_is_number(value -> 'low')
                                          and analytics_is_number(value -> 'high')
                    else false end, false) end;

create function analytics_are_filters(value jsonb) returns boolean
    language sql immutable parallel safe
    return case when analytics_is_array(value, 0, 20)
                then not exists (select from jsonb_array_elements(value) i (item) where not analytics_is_filter(i.item))
                else false end;

create table widgets (
    id           uuid        not null default gen_random_uuid(),
    org_id       uuid        not null default nullif(current_setting('app.current_organization_id', true), '')::uuid,
    dashboard_id uuid        not null,
    dataset_id   uuid,
    title        text        not null,
    config       jsonb       not null,
    filters      jsonb       not null default '[]',
    grid_x       smallint    not null default 0,
    grid_y       smallint    not null default 0,
    grid_width   smallint    not null default 4,
    grid_height  smallint    not null default 3,
    created_by   uuid        not null,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),

    constraint widgets_pkey primary key (id),
    constraint widgets_dashboard_id_fkey
        foreign key (dashboard_id) references dashboards (id) on delete cascade,
    constraint widgets_dataset_id_fkey
        foreign key (dataset_id) references datasets (id) on delete cascade,

    constraint widgets_title_check      check (char_length(title) between 1 and 200),
    constraint widgets_config_check     check (analytics_is_widget_config(config)),
    constraint widgets_filters_check    check (analytics_are_filters(filters)),
    -- Only a text stands for itself.
    constraint widgets_dataset_id_check check ((dataset_id is null) = (config ->> 'type' = 'text')),
    -- A grid of twelve columns.
    constraint widgets_grid_check
        check (grid_x between 0 and 11 and grid_y between 0 and 9999 and grid_width between 1 and 12 - grid_x
               and grid_height between 1 and 100)
);

create index widgets_dashboard_id_idx on widgets (dashboard_id, grid_y, grid_x);
create index widgets_dataset_id_idx on widgets (dataset_id);

create trigger widgets_check_org_id
    before insert or update on widgets
    for each row execute function analytics_check_org_id();

create trigger widgets_touch_updated_at
    before update on widgets
    for each row execute function analytics_touch_updated_at();

comment on column widgets.config  is 'cgk::analytics::WidgetConfig';
comment on column widgets.filters is 'cgk::analytics::Filters';
