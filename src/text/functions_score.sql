-- text: how well one text answers for another
--
-- Costs as in registry/functions.sql.  Null for a null text; a null model is millrace.text_encoder.

CREATE FUNCTION @extschema@.bert_score(candidate text, reference text, model text DEFAULT NULL,
		OUT "precision" real, OUT recall real, OUT f1 real)
	LANGUAGE c STABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_bert_score';
COMMENT ON FUNCTION @extschema@.bert_score(text, text, text) IS
	'BERTScore of a candidate against a reference, as the bert-score package computes it: layer, IDF and rescaling as the model''s specification says, by default the last layer, none, none; an empty text scores 0';

CREATE FUNCTION @extschema@.bert_score(candidate text, "references" text[], model text DEFAULT NULL,
		OUT "precision" real, OUT recall real, OUT f1 real)
	LANGUAGE c STABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_bert_score_best';
COMMENT ON FUNCTION @extschema@.bert_score(text, text[], text) IS
	'BERTScore against several references: each figure''s best, as the bert-score package; null references do not count';

CREATE FUNCTION @extschema@.score_response(response text, reference text, model text DEFAULT NULL) RETURNS real
	LANGUAGE c STABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_score_response';
COMMENT ON FUNCTION @extschema@.score_response(text, text, text) IS 'F1 of bert_score()';

CREATE FUNCTION millrace.calibrated_score(response text, reference text, model text DEFAULT NULL) RETURNS real
	LANGUAGE c STABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_calibrated_score';
COMMENT ON FUNCTION millrace.calibrated_score(text, text, text) IS
	'score_response() on the scale of the model''s calibration, on which a quality gate asks for more than 0.75: see millrace.calibrate_score()';

CREATE FUNCTION millrace.bert_scores(candidates text[], "references" text[], options jsonb DEFAULT '{}')
	RETURNS TABLE (ordinal integer, "precision" real, recall real, f1 real, model text)
	LANGUAGE c STABLE PARALLEL SAFE COST 10000 ROWS 100
	AS 'MODULE_PATHNAME', 'millrace_bert_scores';
COMMENT ON FUNCTION millrace.bert_scores(text[], text[], jsonb) IS
	'BERTScore of pairs, a row each, in order: every different text is embedded once; the same bits as one by one; null figures where a text is null; options: model, layer, idf (weights by name, or "" for none), rescale (true, false, or a baseline [precision, recall, f1]), batch_size (pairs at most at a time)';

CREATE FUNCTION @extschema@.rouge_l(candidate text, reference text) RETURNS real
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100
	AS 'MODULE_PATHNAME', 'millrace_rouge_l';
COMMENT ON FUNCTION @extschema@.rouge_l(text, text) IS
	'ROUGE-L F1: words in common in the same order, as the rouge-score package without stemming (words of a-z and 0-9)';

CREATE FUNCTION @extschema@.token_f1(candidate text, reference text) RETURNS real
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100
	AS 'MODULE_PATHNAME', 'millrace_token_f1';
COMMENT ON FUNCTION @extschema@.token_f1(text, text) IS
	'F1 of the words in common after SQuAD''s normalization: lower case, without punctuation and articles; 1 if neither text has a word';

CREATE FUNCTION @extschema@.token_recall(candidate text, reference text) RETURNS real
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100
	AS 'MODULE_PATHNAME', 'millrace_token_recall';
COMMENT ON FUNCTION @extschema@.token_recall(text, text) IS
	'share of the reference''s words that the candidate has, after SQuAD''s normalization: a long answer that contains a short reference has 1';

CREATE FUNCTION @extschema@.exact_match(candidate text, reference text) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100
	AS 'MODULE_PATHNAME', 'millrace_exact_match';
COMMENT ON FUNCTION @extschema@.exact_match(text, text) IS
	'whether both texts are the same after SQuAD''s normalization: lower case, without punctuation and articles';

CREATE FUNCTION @extschema@.answer_relevance(question text, answer text, model text DEFAULT NULL) RETURNS real
	LANGUAGE c STABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_answer_relevance';
COMMENT ON FUNCTION @extschema@.answer_relevance(text, text, text) IS
	'cosine of the embeddings of a question and an answer: whether it speaks of the same things, not whether it is right';

CREATE FUNCTION millrace.build_idf(name text, query text, model text DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_build_idf';
COMMENT ON FUNCTION millrace.build_idf(text, text, text) IS
	'count in how many texts of a query (one column, usually the references) each token of the encoder occurs, and store that under a name in millrace.score_idf; returns the number of texts';

CREATE FUNCTION millrace.drop_idf(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_drop_idf';
COMMENT ON FUNCTION millrace.drop_idf(text) IS 'forget IDF weights';

CREATE FUNCTION millrace.build_score_baseline(model text, query text, options jsonb DEFAULT '{}',
		OUT layer integer, OUT "precision" double precision, OUT recall double precision, OUT f1 double precision, OUT pairs bigint)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_build_score_baseline';
COMMENT ON FUNCTION millrace.build_score_baseline(text, text, jsonb) IS
	'mean scores of random pairs of different texts of a query (one column), stored in millrace.score_baselines: what rescaling makes 0; options: layer, pairs (at most: half of the texts), seed, replace';

CREATE FUNCTION millrace.calibrate_score(model text, query text, options jsonb DEFAULT '{}',
		OUT layer integer, OUT threshold double precision, OUT examples bigint, OUT correct bigint,
		OUT false_accepts bigint, OUT false_rejects bigint, OUT auc double precision)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_calibrate_score';
COMMENT ON FUNCTION millrace.calibrate_score(text, text, jsonb) IS
	'find from judged examples, a query of (response text, reference text, correct boolean), the score that an accepted answer must exceed, and store the scale on which it is 0.75 in millrace.score_calibrations, in place of an earlier one; options: criterion (youden, equal_rates), layer, idf';

-- The light scores are plain functions of two texts and stay everybody's.
REVOKE EXECUTE ON FUNCTION
	@extschema@.bert_score(text, text, text),
	@extschema@.bert_score(text, text[], text),
	@extschema@.score_response(text, text, text),
	millrace.calibrated_score(text, text, text),
	millrace.bert_scores(text[], text[], jsonb),
	@extschema@.answer_relevance(text, text, text),
	millrace.build_idf(text, text, text),
	millrace.drop_idf(text),
	millrace.build_score_baseline(text, text, jsonb),
	millrace.calibrate_score(text, text, jsonb)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	@extschema@.bert_score(text, text, text),
	@extschema@.bert_score(text, text[], text),
	@extschema@.score_response(text, text, text),
	millrace.calibrated_score(text, text, text),
	millrace.bert_scores(text[], text[], jsonb),
	@extschema@.answer_relevance(text, text, text)
	TO millrace_user;
GRANT EXECUTE ON FUNCTION
	millrace.build_idf(text, text, text),
	millrace.drop_idf(text),
	millrace.build_score_baseline(text, text, jsonb),
	millrace.calibrate_score(text, text, jsonb)
	TO millrace_modeler;
