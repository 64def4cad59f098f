/*
 * meaning_pg.c
 *	  millrace.meaning_conflict(), millrace.question_key().
 */
#include "postgres.h"

#include "core/core_pg.h"
#include "mb/pg_wchar.h"
#include "text/meaning.h"
#include "text/text_pg.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

PG_FUNCTION_INFO_V1(millrace_meaning_conflict);
PG_FUNCTION_INFO_V1(millrace_question_key);

/* millrace.meaning_conflict(a text, b text) -> text */
Datum
millrace_meaning_conflict(PG_FUNCTION_ARGS)
{
	txt_string	a = txt_string_of(PG_GETARG_TEXT_PP(0)),
				b = txt_string_of(PG_GETARG_TEXT_PP(1));
	mr_env		env = mr_pg_env(NULL);
	mr_status	st = {0};
	char		conflict[TXT_MAX_CONFLICT];

	if (txt_meaning_conflict(&env, a.data, a.len, b.data, b.len, conflict, &st) != MR_OK)
		mr_pg_raise(&st);
	if (conflict[0] == '\0')
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(pg_any_to_server(conflict, (int) strlen(conflict), PG_UTF8)));
}

/* millrace.question_key(question text) -> uuid */
Datum
millrace_question_key(PG_FUNCTION_ARGS)
{
	txt_string	q = txt_string_of(PG_GETARG_TEXT_PP(0));
	pg_uuid_t  *key = palloc(sizeof(pg_uuid_t));
	mr_env		env = mr_pg_env(NULL);
	mr_status	st = {0};

	if (txt_question_key(&env, q.data, q.len, key->data, &st) != MR_OK)
		mr_pg_raise(&st);
	PG_RETURN_UUID_P(key);
}
