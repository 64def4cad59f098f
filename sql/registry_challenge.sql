-- Champion against challenger on the same rows: a paired test decides, the reason is kept.
CREATE SCHEMA challenge;
SET search_path = challenge, public;
-- 600 rows to learn from, 600 to judge by; version 1 sees one number, version 2 both.
CREATE TABLE points AS
SELECT i AS id, x, y, CASE WHEN x + y > 0 THEN 'above' ELSE 'below' END AS side, x * 2 + y AS value
FROM (SELECT i, ((i * 7919) % 2003) / 1000.0 - 1 AS x, ((i * 104729) % 1999) / 1000.0 - 1 AS y FROM generate_series(1, 1200) i) s;
CREATE VIEW judges AS SELECT * FROM points WHERE id > 600;
SELECT millrace.train_model('duel', 'logistic_regression', 'SELECT x, side FROM points WHERE id <= 600', 'side');
SELECT millrace.train_model('duel', 'logistic_regression', 'SELECT y, x, side FROM points WHERE id <= 600', 'side');
SELECT millrace.train_model('duel', 'logistic_regression', 'SELECT x, y, side FROM points WHERE id <= 600', 'side', '{"C": 0.9}');
\set judge 'SELECT x, y, side FROM judges'

-- Without a champion the first comer takes the place, unless told not to.
SELECT r->>'promoted' AS promoted, r->>'reason' AS reason FROM millrace.challenge_model('duel', 1, :'judge', 'side', '{"promote_first": false}') r;
SELECT r->>'promoted' AS promoted, r->>'reason' AS reason FROM millrace.challenge_model('duel', 1, :'judge', 'side') r;
-- It need not win against itself.
SELECT r->>'promoted' AS promoted, r->>'reason' AS reason FROM millrace.challenge_model('duel', 1, :'judge', 'side') r;

-- The better one wins; with dry_run nothing moves.
SELECT r->>'better' AS better, r->>'promoted' AS promoted FROM millrace.challenge_model('duel', 2, :'judge', 'side', '{"dry_run": true}') r;
SELECT millrace.resolve_model('duel', 'classifier');
SELECT r->>'test' AS test, r->'contingency' AS contingency, (r->>'p_value')::float8 < 1e-9 AS sure,
	(r->>'gain_low')::float8 > 0.1 AS much, r->>'promoted' AS promoted, r->>'reason' ~ '^accuracy 0\.9\d+ against 0\.[67]\d+ of version 1 on 600 rows: better' AS reason
FROM millrace.challenge_model('duel', 2, :'judge', 'side') r;
SELECT version, reason ~ '^challenge \d+: accuracy' AS reason FROM millrace.model_history WHERE name = 'duel' ORDER BY lower(live);

-- One that is no better stays a challenger; null is the newest version.
SELECT r->>'challenger' AS challenger, r->>'promoted' AS promoted, (r->>'p_value')::float8 > 0.05 AS not_sure
FROM millrace.challenge_model('duel', NULL, :'judge', 'side') r;
SELECT r->>'promoted' AS promoted, (r->>'gain')::float8 < 0 AS worse FROM millrace.challenge_model('duel', 1, :'judge', 'side') r;
-- The rule may ask for more.
SELECT millrace.promote_model('duel', 1);
SELECT r->>'reason' ~ 'only, 0.9 is asked for$' AS gain FROM millrace.challenge_model('duel', 2, :'judge', 'side', '{"min_gain": 0.9}') r;
SELECT r->>'reason' ~ 'too few rows, 1000 are asked for$' AS rows FROM millrace.challenge_model('duel', 2, :'judge', 'side', '{"min_rows": 1000}') r;
-- Other metrics are bootstrapped; the seed decides the interval.
SELECT m, r->>'test' AS test, r->>'better' AS better, r->'gain_low' = s->'gain_low' AS same_interval,
	(r->>'gain')::float8 BETWEEN (r->>'gain_low')::float8 AND (r->>'gain_high')::float8 AS inside
FROM unnest(ARRAY['f1_macro', 'log_loss', 'brier', 'balanced_accuracy']) m,
	LATERAL millrace.challenge_model('duel', 2, :'judge', 'side', jsonb_build_object('metric', m, 'dry_run', true, 'seed', 3)) r,
	LATERAL millrace.challenge_model('duel', 2, :'judge', 'side', jsonb_build_object('metric', m, 'dry_run', true, 'seed', 3)) s;
-- Another alias is another contest.
SELECT r->>'promoted' AS promoted FROM millrace.challenge_model('duel', 3, :'judge', 'side', '{"alias": "nightly"}') r;
SELECT alias, version FROM millrace.model_aliases WHERE name = 'duel' ORDER BY alias;

-- McNemar by hand: the p of the stored contingency, exact and mid-p.
SELECT test, abs(p_value - LEAST(1, 2 * s.tail - CASE test WHEN 'mcnemar_mid_p' THEN s.point ELSE 0 END)) < 1e-9 AS p_is_right
FROM (SELECT millrace.challenge_model('duel', 3, 'SELECT x, y, CASE WHEN id % 20 = 0 THEN CASE side WHEN ''above'' THEN ''below'' ELSE ''above'' END ELSE side END AS side FROM points WHERE id BETWEEN 1 AND 250', 'side',
		jsonb_build_object('mid_p', mid, 'dry_run', true, 'alias', 'champion')) AS r FROM (VALUES (false), (true)) v(mid)) c,
	LATERAL jsonb_to_record(r) AS j(test text, p_value float8, contingency jsonb),
	LATERAL (SELECT (contingency->>'only_champion')::int AS b, (contingency->>'only_challenger')::int AS c) n,
	LATERAL (SELECT sum(t) AS tail, max(t) FILTER (WHERE i = LEAST(b, c)) AS point
		FROM (SELECT i, (factorial(b + c) / factorial(i) / factorial(b + c - i))::numeric / 2 ^ (b + c)::numeric AS t FROM generate_series(0, LEAST(b, c)) i) p) s;

-- Labels the models do not know count as wrong.
SELECT (r->>'challenger_score')::float8 < 0.6 AS wrong FROM millrace.challenge_model('duel', 3,
	'SELECT x, y, CASE WHEN id % 2 = 0 THEN side ELSE ''elsewhere'' END AS side FROM judges', 'side', '{"dry_run": true}') r;

-- Refused.
SELECT millrace.challenge_model('duel', 9, :'judge', 'side');
SELECT millrace.challenge_model('duel', 2, 'SELECT x, side FROM judges', 'side');
SELECT millrace.challenge_model('duel', 2, 'SELECT x, y FROM judges', 'side');
SELECT millrace.challenge_model('duel', 2, :'judge', 'side', '{"metric": "rmse"}');
SELECT millrace.challenge_model('duel', 2, :'judge', 'side', '{"alpha": 2}');
SELECT millrace.challenge_model('duel', 2, :'judge', 'side', '{"alhpa": 0.05}');
SELECT millrace.challenge_model('nobody', 1, :'judge', 'side');
SELECT millrace.challenge_model('duel', 2, NULL, 'side');
BEGIN TRANSACTION READ ONLY;
SELECT millrace.challenge_model('duel', 2, :'judge', 'side');
ROLLBACK;

CREATE ROLE challenge_user;
GRANT millrace_user TO challenge_user;
GRANT USAGE ON SCHEMA challenge TO challenge_user;
SET ROLE challenge_user;
SELECT millrace.challenge_model('duel', 2, 'SELECT * FROM challenge.judges', 'side');
SELECT count(*) > 0 AS may_look FROM millrace.challenges;
RESET ROLE;
DROP OWNED BY challenge_user;
DROP ROLE challenge_user;
SELECT millrace.drop_model('duel');
SET client_min_messages = warning;
DROP SCHEMA challenge CASCADE;
