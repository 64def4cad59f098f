/*
 * kind_pg.c
 *	  Encoders as a kind of the registry's models.
 *
 * The registry stores a model's folder as one run of bytes (bundle.c), compiles
 * it once in the whole server and maps the file for all sessions.
 */
#include "postgres.h"

#include "core/core_pg.h"
#include "nn/nn_pg.h"
#include "registry/kind.h"
#include "text/spec_pg.h"
#include "text/text_pg.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

static void
bundle_files(const reg_file *files, int n, void **bytes, size_t *size)
{
	mr_env		env = mr_pg_env(NULL);
	mr_status	st = {0};
	txt_file   *f = palloc_array(txt_file, n);

	for (int i = 0; i < n; i++)
		f[i] = (txt_file) {.name = files[i].name,.data = files[i].data,.len = files[i].size};
	if (txt_bundle_write(&env, f, n, bytes, size, &st) != MR_OK)
		mr_pg_raise(&st);
	pfree(f);
}

static void *
parse(Jsonb *spec)
{
	return txt_spec_parse(spec);
}

/* An object with the members of both; those of b count. */
static Jsonb *
merge(Jsonb *a, const char *b)
{
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(a),
											  DirectFunctionCall1(jsonb_in, CStringGetDatum(b))));
}

/* How texts become vectors stands in the version's specification, whoever said
 * it; what the network is, in its metrics. */
static void
check(const void *bytes, size_t size, const void *parsed, reg_found *found)
{
	mr_env		env = mr_pg_env(NULL);
	mr_status	st = {0};
	txt_encoder_info info;

	if (txt_encoder_check(&env, bytes, size, &info, &st) != MR_OK)
	{
		/* Damaged bytes are the caller's here, not the database's. */
		if (st.code == MR_CORRUPT)
			st.code = MR_INVALID;
		mr_pg_raise(&st);
	}
	txt_spec_check(parsed, &info);
	txt_spec_apply(parsed, &info);
	found->n_inputs = info.embed_tokens;
	found->n_outputs = info.hidden;
	found->spec = merge(found->spec,
						psprintf("{\"pooling\": \"%s\", \"normalize\": %s, \"max_tokens\": %d}",
								 txt_pooling_name(info.pooling), info.normalize ? "true" : "false", info.embed_tokens));
	found->metrics = merge(found->metrics,
						   psprintf("{\"family\": \"%s\", \"layers\": %d, \"heads\": %d, \"intermediate\": %d, "
									"\"vocabulary\": %d, \"parameters\": " INT64_FORMAT "}",
									txt_family_name(info.family), info.layers, info.heads, info.intermediate,
									info.vocabulary, (int64) info.n_parameters));
}

static char *
key(const void *parsed, nn_isa isa)
{
	const txt_spec *spec = parsed;

	return psprintf("encoder %d %d %s %s", TXT_ENCODER_VERSION, TXT_COMPILER_VERSION, nn_isa_name(isa),
					nn_dtype_name(spec->precision));
}

static mr_code
compile(const mr_env *env, const void *bytes, size_t size, const void *parsed, nn_isa isa,
		void **out, size_t *out_len, mr_status *st)
{
	const txt_spec *spec = parsed;
	txt_encoder_options options = {.isa = isa,.precision = spec->precision};
	size_t		limit = nn_pg_options().max_memory;
	mr_code		code = txt_encoder_compile(env, bytes, size, &options, out, out_len, st);

	if (code == MR_OK && *out_len > limit)
	{
		code = mr_fail(st, MR_LIMIT, "the compiled encoder has %zu bytes, millrace.max_model_memory allows %zu", *out_len, limit);
		mr_hint(st, "Raise the setting, or import the model in a lower precision: bfloat16, int8.");
	}
	return code;
}

static mr_code
open_compiled(const reg_model *reg, const void *parsed, const void *file, size_t len, void *opened, mr_status *st)
{
	txt_model  *m = opened;
	mr_code		code = txt_encoder_open(file, len, &m->encoder, st);

	if (code != MR_OK)
		return code;
	m->reg = reg;
	m->spec = parsed;
	txt_spec_apply(parsed, &m->encoder.info);
	if (m->encoder.info.hidden != reg->n_outputs)
		return mr_fail(st, MR_CORRUPT, "the compiled encoder gives %d numbers, the catalogue says %d",
					   m->encoder.info.hidden, reg->n_outputs);
	return MR_OK;
}

const reg_room_kind txt_encoder_kind = {
	.name = "encoder",
	.task = REG_ENCODE,
	.does = "encodes texts",
	.hint = "Use embed(), or another function of texts.",
	.claims = txt_is_bundle,
	.bundle = bundle_files,
	.parse = parse,
	.check = check,
	.key = key,
	.compile = compile,
	.opened_size = sizeof(txt_model),
	.open = open_compiled
};
