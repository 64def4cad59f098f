-- Outboxes: who may do what, and what publishing appends; no broker is needed for any of it.
CREATE ROLE regress_out LOGIN IN ROLE millrace_admin;
CREATE ROLE regress_user LOGIN IN ROLE millrace_user;
CREATE SERVER regress_o FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '127.0.0.1:1');
CREATE TABLE regress_row (id int PRIMARY KEY, n text);
ALTER TABLE regress_row OWNER TO regress_out;

-- Without an outbox nothing can be published; its owner must be able to use the server, and be no superuser.
SELECT millrace.publish('regress_o', 't', 'x');
SELECT millrace.create_outbox('regress_o');
SELECT millrace.create_outbox('regress_o', '{"owner": "regress_out"}');
GRANT USAGE ON FOREIGN SERVER regress_o TO regress_out;
SELECT millrace.create_outbox('regress_o', '{"owner": "regress_out", "batch_rows": 0}');
SELECT millrace.create_outbox('regress_o', '{"owner": "regress_out", "rows": 5}');
SELECT millrace.create_outbox('regress_o', '[]');
SET ROLE regress_user;
SELECT millrace.create_outbox('regress_o');
RESET ROLE;
SELECT millrace.create_outbox('regress_o', '{"owner": "regress_out"}');
SELECT millrace.create_outbox('regress_o', '{"owner": "regress_out"}');

-- Who publishes needs USAGE on the server; nobody writes to the tables.
SET ROLE regress_user;
SELECT millrace.publish('regress_o', 't', 'x');
INSERT INTO millrace.outbox (leaf, server, topic) VALUES (0, 'regress_o', 't');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER regress_o TO regress_user;
SET ROLE regress_user;
SELECT millrace.publish('regress_o', 't', 'x') IS NOT NULL AS published;
SELECT millrace.publish('regress_o', 't', '\x00ff'::bytea, headers => '{"a": 1, "b": null, "c": {"d": [true]}}') IS NOT NULL AS published;
SELECT millrace.publish('regress_o', 't', 'x', headers => '[1]');
SELECT millrace.publish('regress_o', repeat('t', 250), 'x');
SELECT millrace.pause_outbox('regress_o');
RESET ROLE;

-- Triggers publish for the table's owner, whoever writes.
SET ROLE regress_out;
SELECT millrace.publish_changes('regress_row', 'regress_o', 'rows');
RESET ROLE;
GRANT INSERT, UPDATE, DELETE, SELECT ON regress_row TO regress_user;
REVOKE USAGE ON FOREIGN SERVER regress_o FROM regress_user;
SET ROLE regress_user;
INSERT INTO regress_row VALUES (1, 'one'), (2, 'two');
UPDATE regress_row SET id = 3 WHERE id = 1;
DELETE FROM regress_row WHERE id = 2;
RESET ROLE;
SELECT topic, convert_from(key, 'UTF8') AS key, CASE WHEN topic = 'rows' THEN convert_from(value, 'UTF8') ELSE value::text END AS value, headers
  FROM millrace.outbox ORDER BY id;
SELECT state, waiting FROM millrace.outbox_status;
BEGIN;
REVOKE USAGE ON FOREIGN SERVER regress_o FROM regress_out;
INSERT INTO regress_row VALUES (9, 'nine');
ROLLBACK;
CREATE TRIGGER by_hand AFTER INSERT ON regress_row FOR EACH ROW EXECUTE FUNCTION millrace.publish_rows('regress_o', 'rows', 'row', 'id');
INSERT INTO regress_row VALUES (9, 'nine');
DROP TRIGGER by_hand ON regress_row;

-- An outbox with messages is not dropped unseen.
SELECT millrace.drop_outbox('regress_o');
SELECT millrace.pause_outbox('regress_o', 'for the night');
SELECT state, reason FROM millrace.outbox_status;
SELECT millrace.drop_outbox('regress_o', discard => true);
SELECT millrace.drop_outbox('regress_o');
SELECT count(*) FROM millrace.outbox_progress;

DROP TABLE regress_row;
DROP SERVER regress_o;
DROP ROLE regress_out, regress_user;
