/*
 * model_pg.c
 *	  Encoders and texts for this room's SQL functions.  See text_pg.h.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "text/text_pg.h"

const txt_model *
txt_model_site(void **memory, MemoryContext cxt, text *reference)
{
	return reg_open_kind(reg_resolve_site(memory, cxt, reference, REG_ENCODE), &txt_encoder_kind);
}

const txt_model *
txt_model_arg(FunctionCallInfo fcinfo, int argno)
{
	return reg_open_kind(reg_resolve_arg(fcinfo, argno, REG_ENCODE), &txt_encoder_kind);
}

txt_string
txt_string_of(text *t)
{
	const char *data = VARDATA_ANY(t);
	size_t		len = VARSIZE_ANY_EXHDR(t);
	char	   *utf8 = pg_server_to_any(data, (int) len, PG_UTF8);

	return utf8 == data ? (txt_string) {data, len} : (txt_string) {utf8, strlen(utf8)};
}
