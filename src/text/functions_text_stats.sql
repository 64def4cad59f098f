-- text: plain figures of texts

CREATE FUNCTION millrace.text_stats(content text, OUT characters bigint, OUT words bigint, OUT sentences bigint,
		OUT distinct_words real, OUT repetition real, OUT language text, OUT language_confidence real, OUT refusal text)
	LANGUAGE c STABLE STRICT PARALLEL SAFE COST 500
	AS 'MODULE_PATHNAME', 'millrace_text_stats';
COMMENT ON FUNCTION millrace.text_stats(text) IS
	'length of a text; different words / words; repetition: of its runs of three words, the share that stood there before; a guess of its language (ISO 639-1, null where there is none); the phrase of a refusal that comes first, null without one: see millrace.refusal_phrases';

CREATE FUNCTION millrace.shipped_refusal_phrases() RETURNS text[]
	LANGUAGE c STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_shipped_refusal_phrases';
COMMENT ON FUNCTION millrace.shipped_refusal_phrases() IS
	'the phrases that millrace.text_stats() knows by itself; a row of millrace.refusal_phrases with refuses = false switches one off';

REVOKE EXECUTE ON FUNCTION millrace.text_stats(text), millrace.shipped_refusal_phrases() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.text_stats(text), millrace.shipped_refusal_phrases() TO millrace_user;
