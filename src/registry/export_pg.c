/*
 * export_pg.c
 *	  export_onnx(): a model of ours for other runtimes.
 *
 * The numbers are those of the prediction file that this session has mapped;
 * only trees are read from the model bytes.  Metadata tells what the numbers of
 * X mean: "features" is the specification's list, with each category's values in
 * the order of their codes.
 */
#include "postgres.h"

#include "core/core_pg.h"
#include "fmgr.h"
#include "learn/export.h"
#include "mb/pg_wchar.h"
#include "registry/model.h"
#include "registry/write.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(millrace_export_onnx);

/* ONNX has UTF-8, whatever the database has. */
static const char *
in_utf8(const char *s)
{
	return pg_server_to_any(s, (int) strlen(s), PG_UTF8);
}

/* A member of the specification as text; NULL if it has none. */
static const char *
spec_member(const reg_row *row, const char *key)
{
	JsonbValue *v = getKeyJsonValueFromContainer(&row->spec->root, key, (int) strlen(key), NULL);
	Jsonb	   *json = v ? JsonbValueToJsonb(v) : NULL;

	return json ? JsonbToCString(NULL, &json->root, VARSIZE(json)) : NULL;
}

/* A JSON array of texts. */
static const char *
json_list(const char *const *texts, int n)
{
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfoChar(&s, '[');
	for (int i = 0; i < n; i++)
	{
		appendStringInfoString(&s, i ? ", " : "");
		escape_json(&s, texts[i]);
	}
	appendStringInfoChar(&s, ']');
	return s.data;
}

/* What the file says of the model beside its numbers. */
static void
describe(const reg_model *m, const reg_row *row, lrn_about *about)
{
	const char **labels = palloc_array(const char *, Max(m->n_labels, 1)),
			  **notes = palloc_array(const char *, 8);
	const char *features = spec_member(row, "features");

	for (int i = 0; i < m->n_labels; i++)
		labels[i] = in_utf8(m->labels[i]);
	notes[about->n_notes * 2] = "algorithm";
	notes[about->n_notes++ * 2 + 1] = reg_kind_name(m->kind);
	if (features)
	{
		notes[about->n_notes * 2] = "features";
		notes[about->n_notes++ * 2 + 1] = in_utf8(features);
	}
	if (m->n_labels)
	{
		notes[about->n_notes * 2] = "labels";
		notes[about->n_notes++ * 2 + 1] = in_utf8(json_list(m->labels, m->n_labels));
	}
	about->name = in_utf8(m->name);
	about->version = m->version;
	about->producer_version = MILLRACE_VERSION;
	about->labels = m->n_labels ? labels : NULL;
	about->notes = notes;
}

/* millrace.export_onnx(model text) -> bytea */
Datum
millrace_export_onnx(PG_FUNCTION_ARGS)
{
	char	   *reference = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const reg_model *m = reg_resolve(reference, REG_CLASSIFY);
	reg_row		row;
	lrn_about	about = {0};
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};
	uint8	   *bytes,
			   *onnx;
	size_t		size;

	reg_model_bytes(m, GetActiveSnapshot(), &bytes, &size);
	onnx = bytes;
	if (m->kind != REG_ONNX)
	{
		if (!reg_read_version(m->name, m->version, GetActiveSnapshot(), &row))
			elog(ERROR, "model \"%s\" has no row", m->reference);
		describe(m, &row, &about);
		reg_load(m);
		if (lrn_export_onnx(&env, bytes, size, &m->loaded->lrn, &about, MaxAllocSize - VARHDRSZ, &onnx, &size, &st) != MR_OK)
		{
			if (st.code == MR_LIMIT)
				mr_hint(&st, "A bytea holds 1 GB. Train fewer or smaller trees: n_estimators, max_depth, min_samples_leaf.");
			mr_pg_raise(&st);
		}
		pfree(bytes);
	}
	PG_RETURN_BYTEA_P(reg_bytea(onnx, size));
}
