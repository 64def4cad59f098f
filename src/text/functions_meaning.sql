-- text: do two questions ask the same

CREATE FUNCTION millrace.meaning_conflict(a text, b text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 200
	AS 'MODULE_PATHNAME', 'millrace_meaning_conflict';
COMMENT ON FUNCTION millrace.meaning_conflict(text, text) IS
	'what stands against two questions, that an encoder finds near each other, having one answer: a number, a negation, a name …; null: nothing was found';

CREATE FUNCTION millrace.question_key(question text) RETURNS uuid
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
	AS 'MODULE_PATHNAME', 'millrace_question_key';
COMMENT ON FUNCTION millrace.question_key(text) IS
	'hash of a question without what never matters: how many spaces, sentence marks at the end, a capital at the beginning';

REVOKE EXECUTE ON FUNCTION millrace.meaning_conflict(text, text), millrace.question_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.meaning_conflict(text, text), millrace.question_key(text) TO millrace_user, millrace_admin;
