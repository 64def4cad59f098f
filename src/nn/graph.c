/*
 * graph.c
 *	  The compile-time heap, names and small queries of the graph.
 */
#include "nn/graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- heap ---- */

typedef struct nn_chunk
{
	struct nn_chunk *next;
	size_t		size,
				used;
} nn_chunk;

#define CHUNK_HEAD 64
#define CHUNK_SIZE ((size_t) 256 * 1024)

void
nn_heap_init(nn_heap *h, const mr_env *env, size_t limit, mr_status *st)
{
	h->env = env;
	h->st = st;
	h->chunks = NULL;
	h->used = 0;
	h->limit = limit;
}

void *
nn_heap_alloc(nn_heap *h, size_t count, size_t size)
{
	size_t		bytes;
	nn_chunk   *c = h->chunks;
	void	   *p;

	if (!mr_mul_size(count, size, &bytes) || bytes > SIZE_MAX / 2)
		bytes = SIZE_MAX / 2;
	bytes = (bytes + 63) & ~(size_t) 63;
	if (bytes > h->limit - h->used)
	{
		mr_fail(h->st, MR_LIMIT, "compiling the model needs more than the %zu bytes allowed", h->limit);
		mr_hint(h->st, "Raise millrace.max_model_memory if the model is trusted.");
		return NULL;
	}
	if (c == NULL || c->size - c->used < bytes)
	{
		size_t		room = bytes > CHUNK_SIZE / 4 ? bytes : CHUNK_SIZE;

		c = mr_alloc(h->env, CHUNK_HEAD + room);
		if (c == NULL)
		{
			mr_fail(h->st, MR_NOMEM, "out of memory while compiling the model");
			return NULL;
		}
		c->size = room;
		c->used = 0;
		if (room != CHUNK_SIZE && h->chunks)
		{						/* keep filling the chunk at hand */
			c->next = h->chunks->next;
			h->chunks->next = c;
		}
		else
		{
			c->next = h->chunks;
			h->chunks = c;
		}
	}
	p = (char *) c + CHUNK_HEAD + c->used;
	c->used += bytes;
	h->used += bytes;
	memset(p, 0, bytes);
	return p;
}

void
nn_heap_free(nn_heap *h)
{
	while (h->chunks)
	{
		nn_chunk   *c = h->chunks;

		h->chunks = c->next;
		mr_free(h->env, c);
	}
}

/* ---- names: open addressing over the values' names ---- */

typedef struct nn_names
{
	size_t		size;			/* power of two */
	size_t		used;
	struct
	{
		uint32_t	hash;
		int			value;		/* index + 1, 0: free */
		uint32_t	len;
	}		   *slots;
} nn_names;

static uint32_t
hash_bytes(pb_bytes s)
{
	uint32_t	h = 2166136261u;

	for (size_t i = 0; i < s.len; i++)
		h = (h ^ s.p[i]) * 16777619u;
	return h ^ h >> 15;
}

static size_t
find_slot(const nn_names *t, const nn_graph *g, pb_bytes s, uint32_t h)
{
	size_t		i = h & (t->size - 1);

	while (t->slots[i].value)
	{
		if (t->slots[i].hash == h && t->slots[i].len == s.len && g &&
			memcmp(g->values[t->slots[i].value - 1].name, s.p, s.len) == 0)
			break;
		i = (i + 1) & (t->size - 1);
	}
	return i;
}

static bool
grow_names(nn_graph *g)
{
	nn_names   *t = nn_heap_alloc(g->heap, 1, sizeof(*t));
	nn_names   *old = g->names;

	if (t == NULL)
		return false;
	t->size = old ? old->size * 4 : 1024;
	t->slots = nn_heap_alloc(g->heap, t->size, sizeof(*t->slots));
	if (t->slots == NULL)
		return false;
	for (size_t i = 0; old && i < old->size; i++)
		if (old->slots[i].value)
		{
			pb_bytes	none = {NULL, 0};

			t->slots[find_slot(t, NULL, none, old->slots[i].hash)] = old->slots[i];
			t->used++;
		}
	g->names = t;
	return true;
}

int
nn_find_value(nn_graph *g, pb_bytes name)
{
	if (g->names == NULL)
		return -1;
	return g->names->slots[find_slot(g->names, g, name, hash_bytes(name))].value - 1;
}

int
nn_add_value(nn_graph *g, pb_bytes name)
{
	nn_value   *v;
	uint32_t	h = hash_bytes(name);
	size_t		slot;

	if (g->n_values == g->cap_values)
	{
		int			cap = g->cap_values ? g->cap_values * 2 : 256;
		nn_value   *grown = nn_heap_alloc(g->heap, (size_t) cap, sizeof(*grown));

		if (grown == NULL)
			return -1;
		if (g->n_values)
			memcpy(grown, g->values, (size_t) g->n_values * sizeof(*grown));
		g->values = grown;
		g->cap_values = cap;
	}
	v = &g->values[g->n_values];
	memset(v, 0, sizeof(*v));
	v->producer = -1;
	v->name = nn_copy_string(g, name);
	if (v->name == NULL)
		return -1;
	if (name.len > 0)
	{
		if ((g->names == NULL || g->names->used * 2 >= g->names->size) && !grow_names(g))
			return -1;
		slot = find_slot(g->names, g, name, h);
		g->names->slots[slot].hash = h;
		g->names->slots[slot].len = (uint32_t) name.len;
		g->names->slots[slot].value = g->n_values + 1;
		g->names->used++;
	}
	return g->n_values++;
}

char *
nn_copy_string(nn_graph *g, pb_bytes s)
{
	char	   *c = nn_heap_alloc(g->heap, s.len + 1, 1);

	if (c && s.len)
		memcpy(c, s.p, s.len);
	return c;
}

/* ---- queries ---- */

const nn_attr *
nn_find_attr(const nn_node *n, const char *name)
{
	for (int i = 0; i < n->n_attrs; i++)
		if (strcmp(n->attrs[i].name, name) == 0)
			return &n->attrs[i];
	return NULL;
}

bool
nn_is_output(const nn_graph *g, int value)
{
	for (int i = 0; i < g->n_outputs; i++)
		if (g->outputs[i] == value)
			return true;
	return false;
}

void
nn_count_uses(nn_graph *g)
{
	for (int i = 0; i < g->n_values; i++)
	{
		g->values[i].uses = 0;
		g->values[i].producer = -1;
	}
	for (int i = 0; i < g->n_outputs; i++)
		g->values[g->outputs[i]].uses++;
	for (int i = 0; i < g->n_nodes; i++)
	{
		const nn_node *n = &g->nodes[i];

		if (n->dead)
			continue;
		for (int k = 0; k < n->n_in; k++)
			if (n->in[k] >= 0)
				g->values[n->in[k]].uses++;
		if (n->residual >= 0)
			g->values[n->residual].uses++;
		for (int k = 0; k < n->n_out; k++)
			if (n->out[k] >= 0)
				g->values[n->out[k]].producer = i;
	}
}

const char *
nn_printable(const char *name, char buf[64])
{
	int			n = 0;

	for (; *name && n < 60; name++)
		buf[n++] = *name >= 32 && *name < 127 ? *name : '?';
	buf[n] = '\0';
	return buf;
}

mr_code
nn_node_fail(nn_graph *g, const nn_node *n, mr_code code, const char *fmt,...)
{
	char		why[200];
	char		op[64],
				name[64];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	if (n->name[0] == '\0' && n->n_out > 0 && n->out[0] >= 0)
		return mr_fail(g->st, code, "ONNX node of output \"%s\", operator %s (opset %d): %s",
					   nn_printable(g->values[n->out[0]].name, name), nn_printable(n->op_type, op),
					   n->opset, why);
	return mr_fail(g->st, code, "ONNX node \"%s\", operator %s (opset %d): %s",
				   nn_printable(n->name, name), nn_printable(n->op_type, op), n->opset, why);
}

/* ---- shapes ---- */

bool
nn_shape_elements(const nn_shape *s, int64_t *elements)
{
	int64_t		n = 1;

	for (int i = 0; i < s->rank; i++)
	{
		if (s->dims[i] < 0 || s->dims[i] > NN_MAX_DIM)
			return false;
		if (__builtin_mul_overflow(n, s->dims[i], &n) || n > NN_MAX_ELEMENTS)
			return false;
	}
	*elements = n;
	return true;
}

bool
nn_shape_equal(const nn_shape *a, const nn_shape *b)
{
	return a->rank == b->rank &&
		memcmp(a->dims, b->dims, (size_t) a->rank * sizeof(a->dims[0])) == 0;
}
