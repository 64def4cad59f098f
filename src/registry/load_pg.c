/*
 * load_pg.c
 *	  Weights: from the catalogue into one file for all sessions, and mapped.
 *
 * The file's name is half of the model's SHA-256 and half of that of whatever else
 * could change its bytes: the compiler's version, the instruction set, precision, shapes.  core/mapfile_pg.c
 * makes it, once in the whole server; a damaged one is made again.
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "core/core_pg.h"
#include "core/mapfile_pg.h"
#include "miscadmin.h"
#include "nn/nn_pg.h"
#include "registry/run.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define SHA_SLICE ((size_t) 1 << 20)	/* bytes between interrupts */

/* What build() needs to know. */
typedef struct build_arg
{
	const reg_model *model;
	nn_isa		isa;
	int			n_classes;
	const nn_class *classes;
	bool		built;			/* build() was called */
} build_arg;

void
reg_sha256(const void *data, size_t size, uint8 out[32])
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	bool		good = ctx && pg_cryptohash_init(ctx) >= 0;

	for (size_t done = 0; done < size && good; done += SHA_SLICE)
	{
		CHECK_FOR_INTERRUPTS();
		good = pg_cryptohash_update(ctx, (const uint8 *) data + done, Min(SHA_SLICE, size - done)) >= 0;
	}
	if (!good || pg_cryptohash_final(ctx, out, PG_SHA256_DIGEST_LENGTH) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a SHA-256: %s", pg_cryptohash_error(ctx))));
	pg_cryptohash_free(ctx);
}

void
reg_model_bytes(const reg_model *m, Snapshot snapshot, uint8 **bytes, size_t *size)
{
	if (!reg_read_bytes(m->sha256, snapshot, bytes, size))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the bytes of model \"%s\" are not in millrace.model_files", m->reference),
				 errdetail("It was dropped, or restored without its data.")));
}

/* classes: of shapes, as text; "": none. */
static void
map_key(const reg_model *m, nn_isa isa, const char *classes, uint8 key[32])
{
	char	   *text;
	uint8		rest[32];

	if (reg_room_kind_of(m->kind))
		text = reg_room_kind_of(m->kind)->key(m->loaded->parsed, isa);
	else if (m->kind == REG_ONNX)
		text = psprintf("nn %d %s %s %s", NN_COMPILER_VERSION, nn_isa_name(isa),
						nn_dtype_name(m->loaded->spec.precision), classes);
	else
		text = psprintf("learn %d", LRN_COMPILER_VERSION);
	reg_sha256(text, strlen(text), rest);
	pfree(text);
	memcpy(key, m->sha256, 16);
	memcpy(key + 16, rest, 16);
}

/* mr_map_build: the compiled bytes of a model. */
static void
build(void *arg, MemoryContext cxt, const void **bytes, size_t *len)
{
	build_arg  *b = arg;
	const reg_model *m = b->model;
	const reg_room_kind *room = reg_room_kind_of(m->kind);
	MemoryContext temp = AllocSetContextCreate(CurrentMemoryContext, "millrace model bytes", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(temp);
	Snapshot	snapshot = RegisterSnapshot(GetCatalogSnapshot(reg_models_oid()));
	mr_env		env = mr_pg_env(cxt);
	mr_status	st;
	mr_code		code;
	uint8	   *source;
	size_t		size;
	uint8	   *file;
	uint8		sha[32];

	reg_model_bytes(m, snapshot, &source, &size);
	UnregisterSnapshot(snapshot);
	reg_sha256(source, size, sha);
	if (memcmp(sha, m->sha256, sizeof(sha)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the bytes of model \"%s\" do not have its sha256", m->reference),
				 errhint("Restore millrace.model_files from a backup, or import the model again.")));
	if (room)
		code = room->compile(&env, source, size, m->loaded->parsed, b->isa, (void **) &file, len, &st);
	else if (m->kind == REG_ONNX)
	{
		nn_options	opt = nn_pg_options();

		opt.isa = b->isa;
		opt.precision = m->loaded->spec.precision;
		opt.n_classes = b->n_classes;
		opt.classes = b->classes;
		code = nn_compile(&env, source, size, &opt, &file, len, &st);
	}
	else
		code = lrn_compile(&env, source, size, &file, len, &st);
	if (code != MR_OK)
		mr_pg_raise(&st);
	*bytes = file;
	b->built = true;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(temp);
}

static lrn_isa
learner_isa(nn_isa isa)
{
	switch (isa)
	{
		case nn_isa_portable:
			return LRN_ISA_PORTABLE;
		case nn_isa_avx2:
			return LRN_ISA_AVX2;
		case nn_isa_avx512:
		case nn_isa_avx512_vnni:
		case nn_isa_avx512_bf16:
		case nn_isa_amx:
			return LRN_ISA_AVX512;
		case nn_isa_auto:
			break;
	}
	return LRN_ISA_AUTO;
}

static mr_code
open_map(const reg_model *m, reg_loaded *l, const void *file, size_t len, mr_status *st)
{
	const reg_room_kind *room = reg_room_kind_of(m->kind);
	mr_code		code;

	if (room)
	{
		if (l->opened == NULL)
			l->opened = MemoryContextAlloc(l->cxt, room->opened_size);
		memset(l->opened, 0, room->opened_size);
		return room->open(m, l->parsed, file, len, l->opened, st);
	}
	if (m->kind != REG_ONNX)
	{
		code = lrn_open(file, len, &l->lrn, st);
		if (code == MR_OK && (lrn_n_features(&l->lrn) != m->n_inputs || lrn_n_outputs(&l->lrn) != m->n_outputs))
			code = mr_fail(st, MR_CORRUPT, "the compiled model has %d inputs and %d outputs, the catalogue says %d and %d",
						   lrn_n_features(&l->lrn), lrn_n_outputs(&l->lrn), m->n_inputs, m->n_outputs);
		return code;
	}
	code = nn_open(file, len, &l->nn, st);
	if (code != MR_OK)
		return code;
	l->output = l->spec.output ? nn_find_output(&l->nn, l->spec.output) : 0;
	if (l->output < 0 || nn_output(&l->nn, l->output)->elements != m->n_outputs ||
		reg_row_elements(&l->nn, l->spec.task) != m->n_inputs)
		return mr_fail(st, MR_CORRUPT, "the compiled model does not have the inputs and outputs that the catalogue says");
	reg_spec_complete(&l->spec, nn_input(&l->nn, 0));
	return MR_OK;
}

void
reg_load(const reg_model *m)
{
	reg_loaded *l = m->loaded;
	nn_isa		isa = nn_pg_options().isa;
	build_arg	arg = {m, isa, l->spec.n_classes, l->spec.classes, false};
	mr_status	st = {0};

	if (l->mapped && l->isa == isa)
		return;
	reg_unload(l);
	map_key(m, isa, l->spec.shapes, l->key);
	for (int attempt = 0; attempt < 2; attempt++)
	{
		size_t		len;
		const void *file;

		arg.built = false;
		file = mr_map(l->key, &len, build, &arg);
		l->counts.loads++;
		l->counts.builds += arg.built;
		l->file = file;
		l->file_bytes = len;
		l->mapped = true;
		l->isa = nn_isa_auto;	/* not opened: an error must not leave it so */
		if (open_map(m, l, file, len, &st) == MR_OK)
		{
			if (m->kind > REG_ONNX && m->kind < REG_ROOM)
				lrn_set_isa(&l->lrn, learner_isa(isa));
			l->isa = isa;
			return;
		}
		/* Sound for its checksum, but not for its reader: an older build's. */
		l->mapped = false;
		mr_map_discard(l->key);
	}
	mr_pg_raise(&st);
}

const void *
reg_map_class(const reg_model *m, const nn_class *class, const char *text, uint8 key[32], size_t *len)
{
	reg_loaded *l = m->loaded;
	build_arg	arg = {m, l->isa, 1, class, false};
	const void *file;

	map_key(m, l->isa, text, key);
	file = mr_map(key, len, build, &arg);
	l->counts.loads++;
	l->counts.builds += arg.built;
	return file;
}

void
reg_unload(reg_loaded *l)
{
	reg_forget_plans(l);
	if (l->mapped)
	{
		l->mapped = false;
		mr_map_release(l->key);
	}
}

void
reg_discard_files(const uint8 sha256[32])
{
	mr_map_remove_files(sha256, 16);
}
