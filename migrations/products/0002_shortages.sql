-- Whoever commands a reservation again is told again what was short.
alter table reservations
    -- What a rejected order fell short of, as far as is known: [{"product_id", "quantity", "available"}].
    add column shortages jsonb not null default '[]',
    add constraint reservations_shortages_are_a_list check (jsonb_typeof(shortages) = 'array'),
    add constraint reservations_shortages_where_rejected check (state = 'REJECTED' or shortages = '[]');
