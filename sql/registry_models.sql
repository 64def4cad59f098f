-- Versions, aliases, history, drop.  The model: a logistic regression of 3 numbers and 3 classes.
\set lr '\\x4d524c4541524e00010000000200000003000000030000000300000000000000680000000000000019c25630ebb4605a0000000000000000000000000000000000000000030000007d4901db1897f2bf779e63d886a901403c2ca3cb701ebabf0aa342e8fa8ba33f53de9dddc241893f0e231fb628f6b33f6734bf03b9faf13f563c419bc8c201c0e325105620a1983f5edbbf5b2d3e114087de6db214affc3f01535b88f26918c0'
SET timezone = 'UTC';

-- Versions count up; the bytes are stored once.
SELECT millrace.import_model('colour', :'lr', '{"labels": ["red", "green", "blue"]}');
SELECT millrace.import_model('colour', :'lr', '{"labels": ["rouge", "vert", "bleu"]}');
SELECT name, version, reference, kind, aliases, is_default, n_inputs, n_outputs, classes, origin, created_by = current_user AS mine
FROM millrace.model_versions WHERE name = 'colour' ORDER BY version;
SELECT count(*) AS chunks, sum(length(bytes)) = (SELECT size FROM millrace.models WHERE name = 'colour' AND version = 1) AS whole,
	bool_and(sha256(bytes) = f.sha256) AS sound
FROM millrace.model_files f WHERE sha256 IN (SELECT sha256 FROM millrace.models WHERE name = 'colour');
SELECT millrace.model_bytes('colour') = :'lr' AS bytes_come_back;

-- The bare name is the newest version, until there is a champion.
SELECT (classify('{0, 0, 0.5}', 'colour')).label, (classify('{0, 0, 0.5}', 'colour')).model;
SELECT millrace.promote_model('colour', 1, reason => 'users speak English');
SELECT (classify('{0, 0, 0.5}', 'colour')).model, (classify('{0, 0, 0.5}', 'colour@champion')).label,
	(classify('{0, 0, 0.5}', 'colour:2')).label AS by_version;
SELECT millrace.promote_model('colour', 2, 'challenger');
SELECT millrace.promote_model('colour', 2);
SELECT millrace.promote_model('colour', 2);	-- nothing changes, nothing is written
SELECT reference, aliases, is_default FROM millrace.model_versions WHERE name = 'colour' ORDER BY version;
SELECT alias, version, previous_version, set_by = current_user AS by_me, reason FROM millrace.alias_history WHERE name = 'colour' ORDER BY id;

-- Which version was live at a time?
SELECT p.version FROM millrace.model_history p
WHERE p.name = 'colour' AND p.alias = 'champion'
	AND p.live @> (SELECT set_at FROM millrace.alias_history WHERE name = 'colour' AND reason IS NOT NULL);

-- A rolled back promotion is none.
BEGIN;
SELECT millrace.promote_model('colour', 1);
SELECT millrace.resolve_model('colour', 'classifier');
ROLLBACK;
SELECT millrace.resolve_model('colour', 'classifier');

-- A version number is free again after a rolled back import, with another meaning.
BEGIN;
SELECT millrace.import_model('colour', :'lr', '{"labels": ["x", "y", "z"]}');
SELECT (classify('{0, 0, 0.5}', 'colour:3')).label;
ROLLBACK;
SELECT millrace.import_model('colour', :'lr', '{"labels": ["rot", "gruen", "blau"]}');
SELECT (classify('{0, 0, 0.5}', 'colour:3')).label;

-- Each statement sees the promotions before it, its own session's too.
DO $$
DECLARE
	said text;
BEGIN
	FOR v IN 1..3 LOOP
		PERFORM millrace.promote_model('colour', v);
		said := concat_ws(' ', said, (classify('{0, 0, 0.5}', 'colour')).label);
	END LOOP;
	RAISE NOTICE '%', said;
END
$$;

-- Versions are immutable; measurements are not part of them.
UPDATE millrace.models SET labels = '{a,b,c}' WHERE name = 'colour';
UPDATE millrace.models SET sha256 = sha256('') WHERE name = 'colour';
UPDATE millrace.model_files SET bytes = 'x' WHERE sha256 = sha256(:'lr');
DELETE FROM millrace.models WHERE name = 'colour';
UPDATE millrace.models SET metrics = '{"accuracy": 0.5}' WHERE name = 'colour' AND version = 1;
SELECT accuracy FROM millrace.model_versions WHERE reference = 'colour:1';

-- Dropping: not under an alias, never the row.
SELECT millrace.drop_model('colour', 3);
SELECT millrace.drop_model('colour', 1);
SELECT classify('{0, 0, 0.5}', 'colour:4');
\set VERBOSITY terse
SELECT classify('{0, 0, 0.5}', 'colour:1');
SELECT millrace.drop_model('colour', 1);
SELECT millrace.promote_model('colour', 1);
\set VERBOSITY default
SELECT count(*) AS chunks FROM millrace.model_files WHERE sha256 = sha256(:'lr');
SELECT millrace.drop_alias('colour', 'challenger', 'the contest is over');
SELECT millrace.drop_model('colour');
SELECT version, retired_at IS NOT NULL AS retired FROM millrace.models WHERE name = 'colour' ORDER BY version;
SELECT alias, version, previous_version, reason FROM millrace.alias_history WHERE name = 'colour' ORDER BY id DESC LIMIT 2;
SELECT count(*) AS aliases_left FROM millrace.model_aliases WHERE name = 'colour';
SELECT count(*) AS bytes_left FROM millrace.model_files WHERE sha256 = sha256(:'lr');
SELECT millrace.drop_model('colour');
-- The next version does not take the number of a dropped one.
SELECT millrace.import_model('colour', :'lr', '{"labels": ["red", "green", "blue"]}');
SELECT millrace.drop_model('colour');
