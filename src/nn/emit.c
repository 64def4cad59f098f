/*
 * emit.c
 *	  Writing the compiled file: plan, constants, packed weights.
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

/* Give each constant that a plain step or an output reads a place. */
static mr_code
place_constants(nn_planner *p)
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
		if (at[t->value] == 0)
		{
			at[t->value] = (int64_t) p->content + 1;
			p->content += align64((uint64_t) g->values[t->value].elements *
								  nn_dtype_size(g->values[t->value].dtype));
		}
		t->t.offset = (uint64_t) at[t->value] - 1;
	}
	return MR_OK;
}

static void
write_port(const nn_planner *p, nn_port *port, int value, int tensor)
{
	const nn_value *v = &p->g->values[value];

	memset(port, 0, sizeof(*port));
	strncpy(port->info.name, v->name, NN_NAME_SIZE - 1);
	port->info.rank = v->shape.rank;
	port->info.dtype = v->dtype;
	for (int i = 0; i < v->shape.rank; i++)
		port->info.dims[i] = v->shape.dims[i];
	if (v->batch)
		port->info.dims[0] = -1;
	port->info.elements = v->elements;
	port->tensor = tensor;
}

mr_code
nn_file_seal(uint8_t *file, const mr_env *env)
{
	nn_file_header *h = (nn_file_header *) (void *) file;
	mr_sha256	sha;

	mr_sha256_init(&sha);
	for (uint64_t at = h->plan_len; at < h->total_len; at += HASH_SLICE)
	{
		uint64_t	n = h->total_len - at;

		if (mr_interrupted(env))
			return MR_CANCELED;
		mr_sha256_add(&sha, file + at, n < HASH_SLICE ? n : HASH_SLICE);
	}
	mr_sha256_end(&sha, h->content_sha);
	memset(h->plan_sha, 0, sizeof(h->plan_sha));
	mr_sha256_of(file, h->plan_len, h->plan_sha);
	return MR_OK;
}

mr_code
nn_emit(nn_planner *p, uint8_t **file, size_t *len)
{
	nn_graph   *g = p->g;
	nn_file_header h;
	uint8_t    *f;
	mr_code		rc = MR_OK;

	NN_TRY(place_constants(p));
	memset(&h, 0, sizeof(h));
	h.magic = NN_FILE_MAGIC;
	h.version = NN_COMPILER_VERSION;
	h.isa = (uint32_t) p->isa;
	h.layout = NN_FILE_LAYOUT;
	h.ops = nn_ops_fingerprint();
	h.n_tensors = (uint32_t) p->n_tensors;
	h.n_operands = (uint32_t) p->n_operands;
	h.n_steps = (uint32_t) p->n_steps;
	h.n_inputs = (uint32_t) g->n_inputs;
	h.n_outputs = (uint32_t) g->n_outputs;
	h.max_operands = (uint32_t) p->max_operands;
	h.tensors = align64(sizeof(h));
	h.operands = align64(h.tensors + h.n_tensors * sizeof(nn_ftensor));
	h.steps = align64(h.operands + h.n_operands * sizeof(int32_t));
	h.ports = align64(h.steps + h.n_steps * sizeof(nn_fstep));
	h.plan_len = align64(h.ports + (h.n_inputs + h.n_outputs) * sizeof(nn_port));
	h.total_len = h.plan_len + p->content;
	h.arena = align64(p->arena);
	h.scratch = align64(p->scratch);
	h.workspace = h.arena + h.scratch + align64(h.max_operands * sizeof(nn_tensor));
	if (h.total_len > g->opt->max_memory || h.workspace > g->opt->max_memory - h.total_len)
	{
		mr_fail(g->st, MR_LIMIT, "the model needs %llu bytes for its weights and %llu for a run, at most %zu are allowed",
				(unsigned long long) h.total_len, (unsigned long long) h.workspace, g->opt->max_memory);
		mr_hint(g->st, "See millrace.max_model_memory.");
		return MR_LIMIT;
	}
	f = mr_alloc(g->env, h.total_len);
	if (f == NULL)
		return mr_fail(g->st, MR_NOMEM, "out of memory while compiling the model");
	memset(f, 0, h.total_len);
	memcpy(f, &h, sizeof(h));
	for (int i = 0; i < p->n_tensors; i++)
	{
		nn_ftensor *t = (nn_ftensor *) (void *) (f + h.tensors) + i;

		*t = p->tensors[i].t;
		if (t->place == nn_place_const)
			t->offset += h.plan_len;
	}
	if (p->n_operands)
		memcpy(f + h.operands, p->operands, h.n_operands * sizeof(int32_t));
	for (int i = 0; i < g->n_inputs + g->n_outputs; i++)
		write_port(p, (nn_port *) (void *) (f + h.ports) + i,
				   i < g->n_inputs ? g->inputs[i] : g->outputs[i - g->n_inputs],
				   i < g->n_inputs ? -1 : p->outputs[i - g->n_inputs]);
	for (int i = 0; i < p->n_steps && rc == MR_OK; i++)
	{
		nn_fstep   *s = (nn_fstep *) (void *) (f + h.steps) + i;

		*s = p->steps[i].s;
		if (s->data_len)
			s->data += h.plan_len;
		if (mr_interrupted(g->env))
			rc = mr_fail(g->st, MR_CANCELED, "canceled while compiling a model");
		else if (s->data_len)
			rc = nn_step_types[s->kind].write(p, &p->steps[i], f + s->data);
	}
	for (int i = 0; i < p->n_tensors && rc == MR_OK; i++)
	{
		const nn_ftensor *t = (nn_ftensor *) (void *) (f + h.tensors) + i;
		const nn_value *v = &g->values[p->tensors[i].value];

		if (t->place == nn_place_const && t->elements)
			memcpy(f + t->offset, v->data, (size_t) v->elements * nn_dtype_size(v->dtype));
	}
	if (rc == MR_OK && nn_file_seal(f, g->env) != MR_OK)
		rc = mr_fail(g->st, MR_CANCELED, "canceled while compiling a model");
	if (rc != MR_OK)
	{
		mr_free(g->env, f);
		return rc;
	}
	*file = f;
	*len = h.total_len;
	return MR_OK;
}
