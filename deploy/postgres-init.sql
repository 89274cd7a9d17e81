-- What `settle up` makes in Postgres, for containers: a database and a role per service, the relay's role, and that of
-- people who run its verbs; the services' migrations grant to both. The passwords are for a machine of one's own.

create role orders login password 'orders';
create role products login password 'products';
create role delivery login password 'delivery';
create role orchestrator login password 'orchestrator';
create role outbox_relay login password 'outbox_relay';
create role outbox_operator login password 'outbox_operator';

create database orders owner orders;
create database products owner products;
create database delivery owner delivery;
create database orchestrator owner orchestrator;
