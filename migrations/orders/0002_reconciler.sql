-- The reconciler looks for the orders whose customers wait for a decision about a wish to cancel. Pending ones it finds by
-- orders_state.
create index orders_cancelling on orders (order_id) where state = 'confirmed' and cancel = 'requested';
