/*
 * encoder_graph.c
 *	  Encoders that come as model.onnx: the engine runs them.
 *
 * The engine plans for fixed shapes.  We have it make a plan for each of a few
 * lengths (16, 32, 64 ... and the longest) and pad a sequence to the next one; which one
 * depends on the sequence alone, so its numbers do not depend on its batch.
 *
 * Compiled: graph_head | tokenizer | the engine's file, each 64-byte aligned.
 */
#include "text/encoder_graph.h"

#include <stdio.h>
#include <string.h>

#define MAGIC UINT64_C(0x31485052474d524d)	/* "MRMGRPH1" */
#define MAX_HIDDEN 16384
#define SHORTEST 16				/* tokens of the first plan */
#define GROUP_TOKENS 512		/* of sequences that run together */

/* The inputs that a graph may have. */
typedef enum input
{
	INPUT_IDS,
	INPUT_MASK,
	INPUT_TYPES,
	N_INPUTS
} input;

static const char *const input_names[N_INPUTS] = {"input_ids", "attention_mask", "token_type_ids"};

typedef struct txt_graph_head
{
	uint64_t	magic;
	uint32_t	version;
	uint32_t	head_bytes;
	uint64_t	size;			/* of all */
	uint64_t	tokenizer,
				tokenizer_len,
				file,			/* the engine's */
				file_len;
	txt_encoder_info info;
	int32_t		padding;		/* id that fills a sequence */
	int32_t		output;			/* that has the tokens' vectors */
	int32_t		n_plans;
	int32_t		length[TXT_MAX_PLANS];	/* tokens of each, ascending */
} txt_graph_head;

/* What the graph's inputs and outputs are. */
typedef struct ports
{
	int			n_inputs;
	int			output;
	int64_t		fixed;			/* tokens of every sequence, or -1: open */
} ports;

/* ---- checking ---- */

static mr_code
in_file(const txt_hf *hf, mr_status *st, mr_code code)
{
	char		message[sizeof(st->message)];

	if (code == MR_OK || code == MR_CANCELED || code == MR_NOMEM)
		return code;
	snprintf(message, sizeof(message), "%.80s: %.170s", hf->graph->name, st->message);
	memcpy(st->message, message, sizeof(message));
	return code;
}

static mr_code
find_inputs(const nn_summary *s, ports *p, mr_status *st)
{
	bool		found[N_INPUTS] = {false};

	p->n_inputs = s->n_inputs;
	p->fixed = -1;
	for (int i = 0; i < s->n_inputs; i++)
	{
		const nn_tensor_info *in = &s->inputs[i];
		int			k = 0;

		while (k < N_INPUTS && strcmp(in->name, input_names[k]) != 0)
			k++;
		if (k == N_INPUTS)
			return mr_fail(st, MR_UNSUPPORTED, "input \"%.80s\" is none of input_ids, attention_mask and token_type_ids", in->name);
		if (in->rank != 2 || (in->dtype != nn_int64 && in->dtype != nn_int32) || (in->declared[0] != -1 && in->declared[0] != 1) ||
			(p->fixed != -1 && in->declared[1] != -1 && in->declared[1] != p->fixed))
			return mr_fail(st, MR_UNSUPPORTED, "input \"%s\" is not batch x tokens of int64 or int32", in->name);
		found[k] = true;
		if (in->declared[1] != -1)
			p->fixed = in->declared[1];
	}
	for (int k = 0; k <= INPUT_MASK; k++)
		if (!found[k])
			return mr_fail(st, MR_UNSUPPORTED, "the graph has no input \"%s\"", input_names[k]);
	return MR_OK;
}

/* The vectors of the tokens. */
static mr_code
find_output(const nn_summary *s, ports *p, mr_status *st)
{
	static const char *const names[] = {"last_hidden_state", "token_embeddings"};

	p->output = -1;
	for (int n = 0; n < 2 && p->output < 0; n++)
		for (int i = 0; i < s->n_outputs; i++)
			if (strcmp(s->outputs[i].name, names[n]) == 0)
				p->output = i;
	for (int i = 0; i < s->n_outputs && p->output < 0; i++)
		if (s->outputs[i].rank == 3)
			p->output = i;
	if (p->output < 0)
	{
		mr_fail(st, MR_UNSUPPORTED, "the graph has no output of batch x tokens x numbers");
		mr_hint(st, "Export the model with its last_hidden_state; pooling is done here.");
		return MR_UNSUPPORTED;
	}
	return MR_OK;
}

static mr_code
check_output(const nn_tensor_info *out, int64_t tokens, mr_status *st)
{
	if (out->rank != 3 || out->dtype != nn_float32 || out->dims[1] != tokens || out->dims[2] < 1 || out->dims[2] > MAX_HIDDEN)
		return mr_fail(st, MR_UNSUPPORTED, "output \"%.80s\" is not batch x tokens x numbers of float32", out->name);
	return MR_OK;
}

/* Look at the graph: with sequences of so many tokens, or (tokens 0) before anything is known of it. */
static mr_code
look(const mr_env *env, const txt_hf *hf, int tokens, nn_summary *s, ports *p, mr_status *st)
{
	const nn_shape shape = {2, {-1, tokens}};
	const nn_shape shapes[N_INPUTS] = {shape, shape, shape};
	nn_class	class = {.shapes = shapes,.open_only = true};
	nn_options	options = nn_default_options;
	mr_code		rc;

	if (tokens > 0)
	{
		class.n_inputs = p->n_inputs;
		options.n_classes = 1;
		options.classes = &class;
	}
	rc = nn_check(env, hf->graph->data, hf->graph->len, &options, s, st);
	if (rc != MR_OK)
		return in_file(hf, st, rc);
	rc = find_inputs(s, p, st);
	if (rc == MR_OK)
		rc = find_output(s, p, st);
	if (rc == MR_OK)
		rc = check_output(&s->outputs[p->output], p->fixed > 0 ? p->fixed : tokens > 0 ? tokens : NN_OPEN_DIM, st);
	if (rc != MR_OK)
	{
		nn_summary_free(env, s);
		in_file(hf, st, rc);
	}
	return rc;
}

/* Lengths of the plans. */
static int
set_lengths(int max_tokens, int64_t fixed, int32_t length[TXT_MAX_PLANS])
{
	int			n = 0;

	if (fixed < 0)
		for (int l = SHORTEST; l < max_tokens && n < TXT_MAX_PLANS - 1; l *= 2)
			length[n++] = l;
	length[n++] = max_tokens;
	return n;
}

/* *info and *p: of the graph. */
static mr_code
check(const mr_env *env, const txt_hf *hf, const void *tokenizer, size_t tokenizer_len, txt_encoder_info *info, ports *p,
	  mr_status *st)
{
	txt_tokenizer t;
	nn_summary	s;
	mr_code		rc = txt_open(tokenizer, tokenizer_len, &t, st);

	*info = hf->info;
	if (rc != MR_OK)
		return rc;
	if (info->vocabulary == 0)
		info->vocabulary = txt_vocabulary(&t);
	rc = look(env, hf, 0, &s, p, st);
	if (rc != MR_OK)
		return rc;
	info->hidden = (int32_t) s.outputs[p->output].dims[2];
	info->n_parameters = s.n_parameters;
	nn_summary_free(env, &s);
	if (p->fixed > 0)
		info->max_tokens = (int32_t) p->fixed;
	if (info->embed_tokens > info->max_tokens)
		info->embed_tokens = info->max_tokens;
	/* the longest sequences too: a table of positions may be shorter */
	rc = look(env, hf, info->max_tokens, &s, p, st);
	if (rc == MR_OK)
		nn_summary_free(env, &s);
	return rc;
}

mr_code
txt_graph_check(const mr_env *env, const txt_hf *hf, const void *tokenizer, size_t tokenizer_len, txt_encoder_info *info, mr_status *st)
{
	ports		p;

	return check(env, hf, tokenizer, tokenizer_len, info, &p, st);
}

/* ---- compiling ---- */

static uint64_t
aligned(uint64_t at)
{
	return (at + NN_ALIGN - 1) / NN_ALIGN * NN_ALIGN;
}

static mr_code
compile_plans(const mr_env *env, const txt_hf *hf, const txt_encoder_options *options, txt_graph_head *h, int n_inputs,
			  uint8_t **file, size_t *file_len, mr_status *st)
{
	nn_options	engine = nn_default_options;
	nn_class	class[TXT_MAX_PLANS];
	nn_shape	shape[TXT_MAX_PLANS][N_INPUTS];

	for (int i = 0; i < h->n_plans; i++)
	{
		for (int k = 0; k < n_inputs; k++)
			shape[i][k] = (nn_shape) {2, {-1, h->length[i]}};
		class[i] = (nn_class) {.n_inputs = n_inputs,.shapes = shape[i],.open_only = true};
	}
	engine.isa = options->isa;
	engine.precision = options->precision;
	engine.n_classes = h->n_plans;
	engine.classes = class;
	return in_file(hf, st, nn_compile(env, hf->graph->data, hf->graph->len, &engine, file, file_len, st));
}

mr_code
txt_graph_build(const mr_env *env, const txt_hf *hf, const void *tokenizer, size_t tokenizer_len,
				const txt_encoder_options *options, void **out, size_t *out_len, mr_status *st)
{
	txt_graph_head h = {.magic = MAGIC,.version = TXT_ENCODER_VERSION,.head_bytes = sizeof(h),.info = hf->info};
	ports		p;
	uint8_t    *file = NULL;
	size_t		file_len;
	char	   *bytes;
	mr_code		rc;

	*out = NULL;
	if (options->precision == nn_int8)
		return mr_fail(st, MR_UNSUPPORTED, "an encoder from model.onnx is int8 only if its graph is");
	rc = check(env, hf, tokenizer, tokenizer_len, &h.info, &p, st);
	if (rc != MR_OK)
		return rc;
	h.output = p.output;
	h.info.precision = options->precision;
	h.padding = hf->padding > 0 ? hf->padding : 0;
	h.n_plans = set_lengths(h.info.max_tokens, p.fixed, h.length);
	rc = compile_plans(env, hf, options, &h, p.n_inputs, &file, &file_len, st);
	if (rc != MR_OK)
		return rc;
	h.tokenizer = aligned(sizeof(h));
	h.tokenizer_len = tokenizer_len;
	h.file = aligned(h.tokenizer + tokenizer_len);
	h.file_len = file_len;
	h.size = h.file + file_len;
	bytes = mr_alloc(env, h.size);
	if (bytes == NULL)
		rc = mr_fail(st, MR_NOMEM, "out of memory");
	else
	{
		memset(bytes, 0, h.file);
		memcpy(bytes, &h, sizeof(h));
		memcpy(bytes + h.tokenizer, tokenizer, tokenizer_len);
		memcpy(bytes + h.file, file, file_len);
		*out = bytes;
		*out_len = h.size;
	}
	mr_free(env, file);
	return rc;
}

/* ---- opening ---- */

bool
txt_is_graph(const void *bytes, size_t len)
{
	return len >= sizeof(txt_graph_head) && ((const txt_graph_head *) bytes)->magic == MAGIC;
}

static mr_code
damaged(mr_status *st, const char *what)
{
	return mr_fail(st, MR_CORRUPT, "compiled encoder is damaged: %s", what);
}

/* Do the inputs and the output of plan i fit? */
static bool
good_plan(const txt_graph_head *h, int i, const nn_model *m)
{
	if (nn_n_inputs(m) > N_INPUTS || h->output < 0 || h->output >= nn_n_outputs(m) ||
		nn_output(m, h->output)->dtype != nn_float32 || nn_output(m, h->output)->elements != (int64_t) h->length[i] * h->info.hidden)
		return false;
	for (int k = 0; k < nn_n_inputs(m); k++)
		if (nn_input(m, k)->elements != h->length[i] || (nn_input(m, k)->dtype != nn_int64 && nn_input(m, k)->dtype != nn_int32))
			return false;
	return true;
}

mr_code
txt_graph_open(const void *bytes, size_t len, txt_encoder *e, mr_status *st)
{
	const txt_graph_head *h = bytes;
	const txt_encoder_info *info = &h->info;

	memset(e, 0, sizeof(*e));
	if (!txt_is_graph(bytes, len) || (uintptr_t) bytes % NN_ALIGN != 0)
		return damaged(st, "not a compiled encoder");
	if (h->version != TXT_ENCODER_VERSION || h->head_bytes != sizeof(*h))
		return mr_fail(st, MR_CORRUPT, "compiled encoder is of version %u, not %d", h->version, TXT_ENCODER_VERSION);
	if (h->size != len || h->tokenizer != aligned(sizeof(*h)) || h->tokenizer_len > len - h->tokenizer ||
		h->file != aligned(h->tokenizer + h->tokenizer_len) || h->file > len || h->file_len != len - h->file)
		return damaged(st, "sections");
	if (info->family != txt_graph || info->hidden < 1 || info->hidden > MAX_HIDDEN || h->n_plans < 1 || h->n_plans > TXT_MAX_PLANS ||
		info->max_tokens != h->length[h->n_plans - 1] || info->embed_tokens < 1 || info->embed_tokens > info->max_tokens ||
		info->vocabulary < 1 || info->pooling < txt_pool_mean || info->pooling > txt_pool_mean_sqrt)
		return damaged(st, "sizes");
	for (int i = 0; i < h->n_plans; i++)
	{
		mr_code		rc;

		if (h->length[i] < 1 || (i > 0 && h->length[i] <= h->length[i - 1]))
			return damaged(st, "lengths");
		rc = nn_open_plan((const char *) bytes + h->file, h->file_len, i, &e->plan[i], st);
		if (rc != MR_OK)
			return rc;
		if (!good_plan(h, i, &e->plan[i]))
			return damaged(st, "plans");
	}
	e->graph = h;
	e->info = *info;
	e->isa = nn_model_isa(&e->plan[0]);
	return txt_open((const char *) bytes + h->tokenizer, h->tokenizer_len, &e->tokenizer, st);
}

/* ---- running ---- */

/* The plan for sequences of so many tokens. */
static int
plan_for(const txt_graph_head *h, int tokens)
{
	int			i = 0;

	while (i < h->n_plans - 1 && h->length[i] < tokens)
		i++;
	return i;
}

/* Sequences of plan i that run together. */
static int
group_of(const txt_graph_head *h, int i)
{
	return h->length[i] < GROUP_TOKENS ? GROUP_TOKENS / h->length[i] : 1;
}

static size_t
input_size(const txt_graph_head *h, int i)
{
	return aligned((size_t) group_of(h, i) * (size_t) h->length[i] * sizeof(int64_t));
}

static size_t
output_size(const txt_graph_head *h, int i)
{
	return aligned((size_t) group_of(h, i) * (size_t) h->length[i] * (size_t) h->info.hidden * sizeof(float));
}

size_t
txt_graph_workspace(const txt_encoder *e, int tokens)
{
	const txt_graph_head *h = e->graph;
	size_t		most = 0;

	for (int i = 0; i <= plan_for(h, tokens); i++)
	{
		size_t		size = N_INPUTS * input_size(h, i) + output_size(h, i) + nn_workspace(&e->plan[i]);

		if (size > most)
			most = size;
	}
	return most;
}

static void
put(void *array, int dtype, size_t at, int32_t value)
{
	if (dtype == nn_int64)
		((int64_t *) array)[at] = value;
	else
		((int32_t *) array)[at] = value;
}

/* The arrays of an input, filled for n sequences from first on. */
static void
fill(const txt_graph_head *h, const txt_batch *b, int first, int n, int length, const char *name, int dtype, void *array)
{
	bool		ids = strcmp(name, input_names[INPUT_IDS]) == 0,
				mask = strcmp(name, input_names[INPUT_MASK]) == 0;

	for (int i = 0; i < n; i++)
	{
		const int32_t *id = b->ids + b->start[first + i];
		int			tokens = b->start[first + i + 1] - b->start[first + i];

		for (int k = 0; k < length; k++)
			put(array, dtype, (size_t) i * (size_t) length + (size_t) k,
				ids ? (k < tokens ? id[k] : h->padding) : mask ? k < tokens : 0);
	}
}

/* n sequences from first on, all of plan i. */
static mr_code
run_group(const txt_encoder *e, const mr_env *env, char *workspace, const txt_batch *b, int first, int n, int i,
		  float *hidden, mr_status *st)
{
	const txt_graph_head *h = e->graph;
	const nn_model *m = &e->plan[i];
	int			length = h->length[i];
	size_t		width = (size_t) h->info.hidden;
	float	   *out = (float *) (void *) (workspace + N_INPUTS * input_size(h, i));
	const void *inputs[NN_MAX_PORTS];
	void	   *outputs[NN_MAX_PORTS] = {NULL};
	mr_code		rc;

	for (int k = 0; k < nn_n_inputs(m); k++)
	{
		void	   *array = workspace + (size_t) k * input_size(h, i);

		fill(h, b, first, n, length, nn_input(m, k)->name, nn_input(m, k)->dtype, array);
		inputs[k] = array;
	}
	outputs[h->output] = out;
	rc = nn_run_typed(m, env, (char *) out + output_size(h, i), n, inputs, outputs, st);
	for (int k = 0; rc == MR_OK && k < n; k++)
	{
		int			at = b->start[first + k];

		memcpy(hidden + (size_t) at * width, out + (size_t) k * (size_t) length * width,
			   (size_t) (b->start[first + k + 1] - at) * width * sizeof(float));
	}
	return rc;
}

mr_code
txt_graph_run(const txt_encoder *e, const mr_env *env, void *workspace, const txt_batch *b, int layer, float *hidden, mr_status *st)
{
	const txt_graph_head *h = e->graph;
	int			n;

	if (layer != -1 && layer != h->info.layers)
		return mr_fail(st, MR_UNSUPPORTED, "an encoder from model.onnx gives its last layer alone, not layer %d", layer);
	for (int i = 0; i < b->n; i++)
	{
		int			tokens = b->start[i + 1] - b->start[i];

		if (tokens < 1 || tokens > h->info.max_tokens)
			return mr_fail(st, MR_INVALID, "a sequence has 1 to %d tokens, not %d", h->info.max_tokens, tokens);
		for (int k = b->start[i]; k < b->start[i + 1]; k++)
			if (b->ids[k] < 0 || b->ids[k] >= h->info.vocabulary)
				return mr_fail(st, MR_INVALID, "token %d is not in the vocabulary of %d", b->ids[k], h->info.vocabulary);
	}
	for (int first = 0; first < b->n; first += n)
	{
		int			i = plan_for(h, b->start[first + 1] - b->start[first]);
		mr_code		rc;

		for (n = 1; first + n < b->n && n < group_of(h, i); n++)
			if (plan_for(h, b->start[first + n + 1] - b->start[first + n]) != i)
				break;
		rc = run_group(e, env, workspace, b, first, n, i, hidden, st);
		if (rc != MR_OK)
			return rc;
	}
	return MR_OK;
}
