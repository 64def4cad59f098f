/*
 * text_stats_pg.c
 *	  millrace.text_stats(): length, repetition, language and refusal of a text.
 *
 * A call site reads the user's phrases once: a statement sees one set of them.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "text/score_pg.h"
#include "text/text_stats.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(millrace_text_stats);
PG_FUNCTION_INFO_V1(millrace_shipped_refusal_phrases);

/* How models say that they will not or cannot answer. */
static const char *const shipped[] = {
	"as an ai", "as an artificial intelligence", "as a large language model", "as a language model", "i am an ai",
	"i'm an ai", "i'm just an ai", "i am just an ai",
	"i cannot answer", "i can't answer", "i cannot provide", "i can't provide", "i cannot help", "i can't help",
	"i cannot assist", "i can't assist", "i am unable to", "i'm unable to", "i am not able to", "i'm not able to",
	"i cannot fulfill", "i can't fulfill", "i won't be able to", "i must decline", "i have to decline",
	"i do not have access", "i don't have access", "i do not have information", "i don't have information",
	"i do not have enough information", "i don't have enough information", "i do not have specific information",
	"i don't have specific information", "i have no information", "i could not find", "i couldn't find",
	"i do not know", "i don't know", "i am not sure", "i'm not sure", "my knowledge cutoff", "my training data",
	"i apologize but", "i'm sorry but", "i am sorry but", "sorry but i", "it is not clear", "it's not clear",
	"not enough context", "could you please provide more", "please provide more",
	"no puedo ayudar", "no puedo proporcionar", "no tengo información", "como modelo de lenguaje", "lo siento pero",
	"je ne peux pas", "je suis désolé mais", "en tant que modèle de langage", "en tant qu'ia",
	"ich kann nicht", "es tut mir leid aber", "als ki modell", "als sprachmodell",
	"não posso ajudar", "como um modelo de linguagem", "mi dispiace ma", "come modello linguistico"
};

typedef struct call_site
{
	TupleDesc	desc;
	int			n;
	txt_phrase *phrases;
} call_site;

static txt_phrase
phrase_of(const char *utf8)
{
	return (txt_phrase) {utf8, strlen(utf8)};
}

/* The shipped phrases but for those switched off, and the user's, in UTF-8. */
static void
gather_phrases(call_site *site)
{
	char	  **own;
	bool	   *refuses;
	int			n_own = txt_read_refusal_phrases(&own, &refuses);

	site->phrases = palloc((lengthof(shipped) + n_own) * sizeof(txt_phrase));
	for (int i = 0; i < n_own; i++)
	{
		txt_string	s = txt_string_of(cstring_to_text(own[i]));

		own[i] = pnstrdup(s.data, s.len);
		if (refuses[i])
			site->phrases[site->n++] = phrase_of(own[i]);
	}
	for (int i = 0; i < (int) lengthof(shipped); i++)
	{
		bool		off = false;

		for (int j = 0; j < n_own; j++)
			off = off || (!refuses[j] && pg_strcasecmp(own[j], shipped[i]) == 0);
		if (!off)
			site->phrases[site->n++] = phrase_of(shipped[i]);
	}
}

static call_site *
site_of(FunctionCallInfo fcinfo)
{
	FmgrInfo   *fn = fcinfo->flinfo;
	MemoryContext old;
	call_site  *site;

	if (fn->fn_extra)
		return fn->fn_extra;
	old = MemoryContextSwitchTo(fn->fn_mcxt);
	site = palloc0(sizeof(call_site));
	if (get_call_result_type(fcinfo, NULL, &site->desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	site->desc = BlessTupleDesc(site->desc);
	gather_phrases(site);
	MemoryContextSwitchTo(old);
	return fn->fn_extra = site;
}

Datum
millrace_text_stats(PG_FUNCTION_ARGS)
{
	call_site  *site = site_of(fcinfo);
	txt_string	t = txt_string_of(PG_GETARG_TEXT_PP(0));
	mr_env		env = mr_pg_env(NULL);
	mr_status	st = {0};
	txt_stats	s;
	Datum		values[8];
	bool		nulls[8] = {false};

	if (txt_stats_of(&env, t.data, t.len, site->phrases, site->n, &s, &st) != MR_OK)
		mr_pg_raise(&st);
	values[0] = Int64GetDatum(s.characters);
	values[1] = Int64GetDatum(s.words);
	values[2] = Int64GetDatum(s.sentences);
	values[3] = Float4GetDatum((float) s.distinct_words);
	values[4] = Float4GetDatum((float) s.repetition);
	nulls[5] = s.language == NULL;
	values[5] = s.language ? CStringGetTextDatum(s.language) : (Datum) 0;
	values[6] = Float4GetDatum((float) s.confidence);
	nulls[7] = s.phrase < 0;
	if (s.phrase >= 0)
	{
		char	   *local = pg_any_to_server(site->phrases[s.phrase].text, (int) site->phrases[s.phrase].len, PG_UTF8);

		values[7] = CStringGetTextDatum(local);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(site->desc, values, nulls)));
}

Datum
millrace_shipped_refusal_phrases(PG_FUNCTION_ARGS)
{
	Datum		phrase[lengthof(shipped)];

	for (int i = 0; i < (int) lengthof(shipped); i++)
		phrase[i] = CStringGetTextDatum(pg_any_to_server(shipped[i], (int) strlen(shipped[i]), PG_UTF8));
	PG_RETURN_ARRAYTYPE_P(construct_array(phrase, lengthof(shipped), TEXTOID, -1, false, TYPALIGN_INT));
}
