/*
 * emit.c
 *	  Writing the compiled file: plans, constants, packed weights.
 */
#include <string.h>

#include "core/sha256.h"
#include "nn/steps.h"

#define HASH_SLICE (UINT64_C(1) << 20)	/* bytes between two questions whether to stop */

static uint64_t
align64(uint64_t n)
{
	return (n + 63) & ~UINT64_C(63);
}

static mr_code
no_memory(nn_graph *g)
{
	return mr_fail(g->st, MR_NOMEM, "out of memory while compiling the model");
}

/* A value's elements as a piece of the content. */
static mr_code
write_value(nn_graph *g, nn_content *content, const nn_value *v, uint64_t *at)
{
	uint64_t	len = (uint64_t) v->elements * nn_dtype_size(v->dtype);
	void	   *piece = nn_content_new(content, len);

	if (piece == NULL)
		return no_memory(g);
	if (len)
		memcpy(piece, v->data, len);
	return nn_content_add(content, piece, len, at) ? MR_OK : no_memory(g);
}

/* Each constant that a plain step or an output reads. */
static mr_code
write_constants(nn_planner *p, nn_content *content)
{
	nn_graph   *g = p->g;
	int64_t    *at = nn_heap_alloc(g->heap, (size_t) g->n_values + 1, sizeof(int64_t));

	if (at == NULL)
		return g->st->code;
	for (int i = 0; i < p->n_tensors; i++)
	{
		nn_ptensor *t = &p->tensors[i];

		if (t->t.place != nn_place_const)
			continue;
		if (mr_interrupted(g->env))
			return mr_fail(g->st, MR_CANCELED, "canceled while compiling a model");
		if (at[t->value] == 0)
		{
			uint64_t	offset;

			NN_TRY(write_value(g, content, &g->values[t->value], &offset));
			at[t->value] = (int64_t) offset + 1;
		}
		t->t.offset = (uint64_t) at[t->value] - 1;
	}
	return MR_OK;
}

static mr_code
write_steps(nn_planner *p, nn_content *content)
{
	nn_graph   *g = p->g;

	for (int i = 0; i < p->n_steps; i++)
	{
		nn_fstep   *s = &p->steps[i].s;
		void	   *piece;
		mr_code		rc;

		if (mr_interrupted(g->env))
			return mr_fail(g->st, MR_CANCELED, "canceled while compiling a model");
		if (s->data_len == 0)
			continue;
		piece = nn_content_new(content, s->data_len);
		if (piece == NULL)
			return no_memory(g);
		rc = nn_step_types[s->kind].write(p, &p->steps[i], piece);
		if (rc != MR_OK)
		{
			mr_free(content->env, piece);
			return rc;
		}
		if (!nn_content_add(content, piece, s->data_len, &s->data))
			return no_memory(g);
	}
	return MR_OK;
}

static mr_code
write_port(nn_planner *p, nn_content *content, nn_port *port, int i)
{
	nn_graph   *g = p->g;
	bool		input = i < g->n_inputs;
	const nn_value *v = &g->values[input ? g->inputs[i] : g->outputs[i - g->n_inputs]];

	memset(port, 0, sizeof(*port));
	nn_describe_port(g, i, &port->info);
	port->tensor = input ? -1 : p->outputs[i - g->n_inputs];
	port->bound = v->bound && input;
	return port->bound ? write_value(g, content, v, &port->value) : MR_OK;
}

mr_code
nn_emit_plan(nn_planner *p, nn_content *content, nn_emitted *out)
{
	nn_graph   *g = p->g;
	nn_fplan   *h = &out->head;

	NN_TRY(write_steps(p, content));
	NN_TRY(write_constants(p, content));
	memset(h, 0, sizeof(*h));
	h->n_tensors = (uint32_t) p->n_tensors;
	h->n_operands = (uint32_t) p->n_operands;
	h->n_steps = (uint32_t) p->n_steps;
	h->n_inputs = (uint32_t) g->n_inputs;
	h->n_outputs = (uint32_t) g->n_outputs;
	h->max_operands = (uint32_t) p->max_operands;
	h->operands = align64(h->n_tensors * sizeof(nn_ftensor));
	h->steps = align64(h->operands + h->n_operands * sizeof(int32_t));
	h->ports = align64(h->steps + h->n_steps * sizeof(nn_fstep));
	h->len = align64(h->ports + (h->n_inputs + h->n_outputs) * sizeof(nn_port));
	h->arena = align64(p->arena);
	h->scratch = align64(p->scratch);
	h->group = p->group;
	h->workspace = h->arena * h->group + h->scratch + align64(h->max_operands * sizeof(nn_tensor));
	if (content->len + h->len > g->opt->max_memory || h->workspace > g->opt->max_memory - content->len - h->len)
	{
		mr_fail(g->st, MR_LIMIT, "the model needs %llu bytes for its weights and %llu for a run, at most %zu are allowed",
				(unsigned long long) (content->len + h->len), (unsigned long long) h->workspace, g->opt->max_memory);
		mr_hint(g->st, "See millrace.max_model_memory.");
		return MR_LIMIT;
	}
	out->bytes = mr_alloc(g->env, h->len);
	if (out->bytes == NULL)
		return no_memory(g);
	memset(out->bytes, 0, h->len);
	for (int i = 0; i < p->n_tensors; i++)
		((nn_ftensor *) (void *) (out->bytes + h->tensors))[i] = p->tensors[i].t;
	if (p->n_operands)
		memcpy(out->bytes + h->operands, p->operands, h->n_operands * sizeof(int32_t));
	for (int i = 0; i < p->n_steps; i++)
		((nn_fstep *) (void *) (out->bytes + h->steps))[i] = p->steps[i].s;
	for (int i = 0; i < g->n_inputs + g->n_outputs; i++)
		NN_TRY(write_port(p, content, (nn_port *) (void *) (out->bytes + h->ports) + i, i));
	return MR_OK;
}

/* Offsets of a plan that now stands at `at`: from the start of the file. */
static void
relocate(uint8_t *file, nn_fplan *h, uint64_t at, uint64_t content)
{
	h->at = at;
	h->tensors += at;
	h->operands += at;
	h->steps += at;
	h->ports += at;
	for (uint32_t i = 0; i < h->n_tensors; i++)
	{
		nn_ftensor *t = (nn_ftensor *) (void *) (file + h->tensors) + i;

		if (t->place == nn_place_const)
			t->offset += content;
	}
	for (uint32_t i = 0; i < h->n_steps; i++)
	{
		nn_fstep   *s = (nn_fstep *) (void *) (file + h->steps) + i;

		if (s->data_len)
			s->data += content;
	}
	for (uint32_t i = 0; i < h->n_inputs; i++)
	{
		nn_port    *port = (nn_port *) (void *) (file + h->ports) + i;

		if (port->bound)
			port->value += content;
	}
}

mr_code
nn_file_seal(uint8_t *file, const mr_env *env)
{
	nn_file_header *h = (nn_file_header *) (void *) file;
	nn_fplan   *plans = (nn_fplan *) (void *) (file + NN_FILE_PLANS);
	mr_sha256	sha;

	mr_sha256_init(&sha);
	for (uint64_t at = h->content; at < h->total_len; at += HASH_SLICE)
	{
		uint64_t	n = h->total_len - at;

		if (mr_interrupted(env))
			return MR_CANCELED;
		mr_sha256_add(&sha, file + at, n < HASH_SLICE ? n : HASH_SLICE);
	}
	mr_sha256_end(&sha, h->content_sha);
	for (uint32_t i = 0; i < h->n_plans; i++)
		mr_sha256_of(file + plans[i].at, plans[i].len, plans[i].sha);
	memset(h->head_sha, 0, sizeof(h->head_sha));
	mr_sha256_of(file, nn_file_heads(h->n_plans), h->head_sha);
	return MR_OK;
}

mr_code
nn_emit_file(const mr_env *env, nn_isa isa, int n, const nn_emitted *plans, nn_content *content,
			 uint8_t **file, size_t *len, mr_status *st)
{
	uint64_t	at = nn_file_heads((uint32_t) n);
	nn_file_header h;
	uint8_t    *f;

	memset(&h, 0, sizeof(h));
	h.magic = NN_FILE_MAGIC;
	h.version = NN_COMPILER_VERSION;
	h.isa = (uint32_t) isa;
	h.layout = NN_FILE_LAYOUT;
	h.ops = nn_ops_fingerprint();
	h.n_plans = (uint32_t) n;
	h.content = at;
	for (int i = 0; i < n; i++)
		h.content += plans[i].head.len;
	h.total_len = h.content + content->len;
	f = mr_alloc(env, h.total_len);
	if (f == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory while compiling the model");
	memset(f, 0, h.content);
	memcpy(f, &h, sizeof(h));
	for (int i = 0; i < n; i++)
	{
		nn_fplan   *head = (nn_fplan *) (void *) (f + NN_FILE_PLANS) + i;

		*head = plans[i].head;
		memcpy(f + at, plans[i].bytes, head->len);
		relocate(f, head, at, h.content);
		at += head->len;
	}
	nn_content_copy(content, f + h.content);
	if (nn_file_seal(f, env) != MR_OK)
	{
		mr_free(env, f);
		return mr_fail(st, MR_CANCELED, "canceled while compiling a model");
	}
	*file = f;
	*len = h.total_len;
	return MR_OK;
}

mr_code
nn_emit(nn_planner *p, uint8_t **file, size_t *len)
{
	nn_content	content = {.env = p->g->env};
	nn_emitted	plan = {.bytes = NULL};
	mr_code		rc = nn_emit_plan(p, &content, &plan);

	if (rc == MR_OK)
		rc = nn_emit_file(p->g->env, nn_plan_isa(p), 1, &plan, &content, file, len, p->g->st);
	nn_content_free(&content);
	mr_free(p->g->env, plan.bytes);
	return rc;
}
