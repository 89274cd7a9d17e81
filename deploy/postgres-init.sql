-- What `settle up` makes in Postgres, for containers: a database and a role per service, and the relay's role, which
-- the services' migrations grant to. The passwords are for a machine of one's own.

create role orders login password 'orders';
create role products login password 'products';
create role delivery login password 'delivery';
create role outbox_relay login password 'outbox_relay';

create database orders owner orders;
create database products owner products;
create database delivery owner delivery;
