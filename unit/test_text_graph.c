/*
 * test_text_graph.c
 *	  Encoders from model.onnx: what is refused, damage of the compiled bytes,
 *	  cancels.  That the numbers are right: t/test_text_encoders.py.
 */
#include "nn_make.h"
#include "text/encoder.h"
#include "text_make.h"
#include "unit.h"

/* ---- a graph that gives each token its row of a table, and zeros to padding ---- */

enum
{
	NO_MASK = 1,
	FLOAT_IDS = 2,
	ODD_INPUT = 4,
	FLAT = 8,					/* the output has two dimensions */
	FIXED = 16,					/* sequences have 12 tokens */
	SHORT_TABLE = 32			/* of positions: 20 rows */
};

static void
number(pbw *graph, const char *name, int64_t value)
{
	pbw			t = {0};
	int64_t		one = 1;

	pbw_int(&t, 1, one);
	pbw_int(&t, 2, 7);
	pbw_str(&t, 8, name);
	pbw_bytes(&t, 9, &value, 8);
	pbw_message(graph, 5, &t);
}

static pbw
make_graph(int how)
{
	const char *dims = how & FIXED ? "batch,12" : "batch,tokens";
	pbw			g = {0},
				n;

	add_weights(&g, "words", 2, (int64_t[]) {8, 4}, 1, 0);
	add_weights(&g, "positions", 3, (int64_t[]) {1, 20, 4}, 1, 0);
	number(&g, "last", 2);
	named_port(&g, 11, "input_ids", how & FLOAT_IDS ? 1 : 7, dims);
	if (!(how & NO_MASK))
		named_port(&g, 11, "attention_mask", 7, dims);
	if (how & ODD_INPUT)
		named_port(&g, 11, "position_ids", 7, dims);
	if (how & FLOAT_IDS)
	{
		n = make_node("Cast", "ids", "input_ids", "ids");
		attr_int(&n, "to", 7);
		pbw_message(&g, 1, &n);
	}
	add_node(&g, "Gather", how & FLOAT_IDS ? "words,ids" : "words,input_ids", "x");
	n = make_node("Cast", "mask", how & NO_MASK ? "input_ids" : "attention_mask", "mask");
	attr_int(&n, "to", 1);
	pbw_message(&g, 1, &n);
	add_node(&g, "Unsqueeze", "mask,last", "wide");
	add_node(&g, "Mul", "x,wide", how & (FLAT | SHORT_TABLE) ? "y" : "last_hidden_state");
	if (how & SHORT_TABLE)
		add_node(&g, "Add", "y,positions", "last_hidden_state");
	if (how & FLAT)
	{
		n = make_node("ReduceSum", "flat", "y,last", "sentence_embedding");
		attr_int(&n, "keepdims", 0);
		pbw_message(&g, 1, &n);
		named_port(&g, 12, "sentence_embedding", 1, "batch,tokens");
	}
	else
		named_port(&g, 12, "last_hidden_state", 1, how & FIXED ? "batch,12,4" : "batch,tokens,4");
	return make_model(&g, 13);
}

/* The bundle of a folder with this graph, and room for 40 tokens. */
static void *
make_bundle(int how, size_t cut, size_t *len)
{
	made_folder f = made_bert();
	pbw			model = make_graph(how);
	txt_file	file[3];
	void	   *bundle;
	mr_status	st = {0};

	made_edit(&f, "config.json", "\"max_position_embeddings\":10", "\"max_position_embeddings\":40");
	file[0] = (txt_file) {"config.json", made_find(&f, "config.json")->text, strlen(made_find(&f, "config.json")->text)};
	file[1] = (txt_file) {"onnx/model.onnx", model.p, model.len - cut};
	file[2] = (txt_file) {"vocab.txt", made_find(&f, "vocab.txt")->text, strlen(made_find(&f, "vocab.txt")->text)};
	if (txt_bundle_write(&mr_env_malloc, file, 3, &bundle, len, &st) != MR_OK)
		abort();
	free(model.p);
	made_free(&f);
	return bundle;
}

/* ---- what is refused ---- */

static void
expect(int how, size_t cut, const char *message)
{
	size_t		len;
	void	   *bundle = make_bundle(how, cut, &len);
	txt_encoder_info info;
	mr_status	st = {0};

	txt_encoder_check(&mr_env_malloc, bundle, len, &info, &st);
	if (!ok(strstr(st.message, message) != NULL, "%s", message))
		printf("# \"%s\"\n", st.message);
	mr_free(&mr_env_malloc, bundle);
}

static void
refusals(void)
{
	expect(NO_MASK, 0, "onnx/model.onnx: the graph has no input \"attention_mask\"");
	expect(FLOAT_IDS, 0, "onnx/model.onnx: input \"input_ids\" is not batch x tokens of int64 or int32");
	expect(ODD_INPUT, 0, "onnx/model.onnx: input \"position_ids\" is none of input_ids, attention_mask and token_type_ids");
	expect(FLAT, 0, "onnx/model.onnx: the graph has no output of batch x tokens x numbers");
	expect(SHORT_TABLE, 0, "onnx/model.onnx: ONNX node \"last_hidden_state\", operator Add (opset 13): shapes do not broadcast");
	expect(0, 9, "onnx/model.onnx: the file is not an ONNX model");
}

/* ---- running ---- */

typedef struct opened
{
	void	   *bytes;
	size_t		len;
	txt_encoder e;
} opened;

static mr_code
compile(int how, nn_dtype precision, opened *o, mr_status *st)
{
	size_t		len;
	void	   *bundle = make_bundle(how, 0, &len);
	txt_encoder_options options = {nn_isa_auto, precision};
	mr_code		rc = txt_encoder_compile(&mr_env_malloc, bundle, len, &options, &o->bytes, &o->len, st);

	mr_free(&mr_env_malloc, bundle);
	return rc == MR_OK ? txt_encoder_open(o->bytes, o->len, &o->e, st) : rc;
}

/* Sequences of these lengths: ids 1, 2 … 7, 1 …; hidden: of malloc. */
static mr_code
run(const txt_encoder *e, const mr_env *env, int n, const int *lengths, int layer, float **hidden, mr_status *st)
{
	int32_t		ids[512],
				start[32] = {0};
	txt_batch	b = {n, ids, start};
	void	   *workspace;
	mr_code		rc;

	for (int i = 0; i < n; i++)
		start[i + 1] = start[i] + lengths[i];
	for (int i = 0; i < start[n]; i++)
		ids[i] = 1 + i % 7;
	*hidden = malloc(sizeof(float) * (size_t) start[n] * (size_t) e->info.hidden);
	workspace = mr_alloc(&mr_env_malloc, txt_encoder_workspace(e, start[n]));
	rc = txt_encoder_run(e, env, workspace, &b, layer, *hidden, st);
	mr_free(&mr_env_malloc, workspace);
	return rc;
}

static bool
always(void *arg)
{
	return true;
}

static void
running(void)
{
	static const int lengths[] = {7, 14, 21, 7, 35, 14, 7, 7};	/* so that each begins with id 1 */
	opened		o;
	mr_status	st = {0};
	mr_env		stopping = mr_env_malloc;
	float	   *all,
			   *one;
	bool		same = true,
				rows = true;
	int			at = 0;

	if (!ok(compile(0, nn_float32, &o, &st) == MR_OK, "a graph is compiled and opened"))
	{
		printf("# %s\n", st.message);
		return;
	}
	ok(o.e.info.family == txt_graph && o.e.info.hidden == 4 && o.e.info.max_tokens == 40 && o.e.info.embed_tokens == 40 &&
	   o.e.info.vocabulary == 8, "its sizes");
	ok(run(&o.e, &mr_env_malloc, 8, lengths, -1, &all, &st) == MR_OK, "sequences of many lengths are run");
	for (int i = 0; i < 112; i++)
		rows = rows && memcmp(all + i * 4, all + i % 7 * 4, 16) == 0;
	ok(rows && all[0] != 0, "a token has the same row wherever it is");
	for (int i = 0; i < 8; at += lengths[i++])
	{
		same = same && run(&o.e, &mr_env_malloc, 1, &lengths[i], -1, &one, &st) == MR_OK &&
			memcmp(one, all + at * 4, sizeof(float) * 4 * (size_t) lengths[i]) == 0;
		free(one);
	}
	ok(same, "and alone the same bits");
	free(all);
	ok(run(&o.e, &mr_env_malloc, 1, lengths, 0, &one, &st) == MR_UNSUPPORTED, "another layer is refused: %s", st.message);
	free(one);
	ok(run(&o.e, &mr_env_malloc, 1, (int[]) {41}, -1, &one, &st) == MR_INVALID, "a sequence that is too long is refused: %s", st.message);
	free(one);
	ok(run(&o.e, &mr_env_malloc, 1, (int[]) {0}, -1, &one, &st) == MR_INVALID, "an empty sequence is refused: %s", st.message);
	free(one);
	stopping.interrupted = always;
	ok(run(&o.e, &stopping, 8, lengths, -1, &one, &st) == MR_CANCELED, "a cancel is noticed");
	free(one);
	mr_free(&mr_env_malloc, o.bytes);

	ok(compile(FIXED, nn_float32, &o, &st) == MR_OK && o.e.info.max_tokens == 12, "a graph for sequences of 12 tokens");
	ok(run(&o.e, &mr_env_malloc, 2, (int[]) {12, 5}, -1, &one, &st) == MR_OK, "runs shorter ones too");
	free(one);
	mr_free(&mr_env_malloc, o.bytes);
	ok(compile(0, nn_int8, &o, &st) == MR_UNSUPPORTED, "int8 is refused: %s", st.message);
}

/* ---- damaged bytes ---- */

static void
damage(void)
{
	opened		o;
	mr_status	st = {0};
	txt_encoder e;
	char	   *copy;
	int			taken = 0;
	uint32_t	seed = 1;

	if (compile(0, nn_float32, &o, &st) != MR_OK)
		return;
	copy = aligned_alloc(64, (o.len + 63) / 64 * 64);
	for (size_t n = 0; n < o.len; n += n < 1000 ? 1 : 97)
	{
		memcpy(copy, o.bytes, n);
		taken += txt_encoder_open(copy, n, &e, &st) == MR_OK;
	}
	ok(taken == 0, "bytes that are cut off are refused");
	for (int i = 0; i < 4000; i++)
	{
		float	   *hidden;

		memcpy(copy, o.bytes, o.len);
		seed = seed * 1664525 + 1013904223;
		/* half of the changes in the head */
		copy[(seed >> 8) % (i % 2 ? 256 : o.len)] ^= (char) (1 << (seed & 7));
		if (txt_encoder_open(copy, o.len, &e, &st) != MR_OK)
			continue;
		taken++;
		if (e.info.hidden == 4 && run(&e, &mr_env_malloc, 2, (int[]) {20, 3}, -1, &hidden, &st) != MR_INTERNAL)
			free(hidden);
	}
	ok(taken < 4000, "damaged bytes: %d of 4000 are opened, and run within bounds", taken);
	free(copy);
	mr_free(&mr_env_malloc, o.bytes);
}

int
main(void)
{
	refusals();
	running();
	damage();
	return done_testing();
}
