-- Which version was live when, and going back.  The model: a logistic regression of 3 numbers and 3 classes.
\set lr '\\x4d524c4541524e00010000000200000003000000030000000300000000000000680000000000000019c25630ebb4605a0000000000000000000000000000000000000000030000007d4901db1897f2bf779e63d886a901403c2ca3cb701ebabf0aa342e8fa8ba33f53de9dddc241893f0e231fb628f6b33f6734bf03b9faf13f563c419bc8c201c0e325105620a1983f5edbbf5b2d3e114087de6db214affc3f01535b88f26918c0'
CREATE TEMP TABLE seen (what text, at timestamptz);
SELECT millrace.import_model('past', :'lr', '{"labels": ["a", "b", "c"]}') FROM generate_series(1, 4);

-- Every change has a time; before the champion the bare name was the newest version.
INSERT INTO seen VALUES ('no champion', clock_timestamp());
SELECT millrace.promote_model('past', 1, reason => 'first');
INSERT INTO seen VALUES ('first', clock_timestamp());
SELECT millrace.promote_model('past', 2);
INSERT INTO seen VALUES ('second', clock_timestamp());
BEGIN;
SELECT millrace.promote_model('past', 3);
SELECT millrace.promote_model('past', 1);
SAVEPOINT s;
SELECT millrace.promote_model('past', 2);
ROLLBACK TO s;
SELECT millrace.promote_model('past', 4, reason => 'the last word of a transaction');
COMMIT;
INSERT INTO seen VALUES ('third', clock_timestamp());
SELECT s.what, millrace.model_at('past', s.at) AS bare, millrace.model_at('past', s.at, 'champion') AS champion,
	(SELECT h.version FROM millrace.model_history h WHERE h.name = 'past' AND h.alias = 'champion' AND h.live @> s.at) AS by_view
FROM seen s ORDER BY s.at;
SELECT version, upper_inf(live) AS now, reason FROM millrace.model_history WHERE name = 'past' ORDER BY lower(live);
SELECT millrace.model_at('past', '2001-01-01'), millrace.model_at('nobody', now()), millrace.model_at('past', now(), 'nobody');

-- A clock that went back does not: the history stays in order, and no period is upside down.
BEGIN;
SELECT set_at AS changed FROM millrace.alias_history WHERE name = 'past' ORDER BY id DESC LIMIT 1 \gset
SET LOCAL session_replication_role = replica;
UPDATE millrace.alias_history SET set_at = 'now'::timestamptz + '1 day' WHERE name = 'past' AND set_at = :'changed';
COMMIT;
SELECT millrace.promote_model('past', 2);
SELECT bool_and(set_at >= before) AS in_order
FROM (SELECT set_at, lag(set_at) OVER (ORDER BY id) AS before FROM millrace.alias_history WHERE name = 'past') s;
SELECT version, upper_inf(live) AS now FROM millrace.model_history WHERE name = 'past' ORDER BY lower(live);

-- Back, and back again: not to and fro.
SELECT millrace.import_model('undo', :'lr', '{"labels": ["a", "b", "c"]}') FROM generate_series(1, 4);
SELECT millrace.rollback_model('undo');
SELECT millrace.promote_model('undo', v) FROM generate_series(1, 4) v;
SELECT millrace.rollback_model('undo', reason => 'four was worse');
SELECT millrace.resolve_model('undo', 'classifier');
SELECT millrace.drop_model('undo', 2);
SELECT millrace.rollback_model('undo') AS two_was_dropped;
SELECT millrace.rollback_model('undo');
SELECT millrace.promote_model('undo', 3);
SELECT millrace.drop_alias('undo', 'champion');
SELECT millrace.rollback_model('undo') AS what_was_removed;
SELECT version, previous_version, reason FROM millrace.alias_history WHERE name = 'undo' ORDER BY id;

-- The newest version is the bare name's meaning as long as it lives.
SELECT clock_timestamp() AS before_drop \gset
SELECT millrace.drop_model('past', 3);
SELECT millrace.drop_model('undo', 4);
SELECT millrace.drop_alias('undo', 'champion');
SELECT millrace.model_at('undo', :'before_drop') AS then_, millrace.model_at('undo', clock_timestamp()) AS now_;

CREATE ROLE history_reader;
SET ROLE history_reader;
SELECT millrace.model_at('past', now());
RESET ROLE;
GRANT millrace_user TO history_reader;
SET ROLE history_reader;
SELECT millrace.model_at('undo', clock_timestamp()), (SELECT count(*) > 0 FROM millrace.model_history) AS history;
SELECT millrace.rollback_model('undo');
RESET ROLE;
DROP ROLE history_reader;
SELECT millrace.drop_model('past'), millrace.drop_model('undo');
