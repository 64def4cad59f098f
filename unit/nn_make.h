/*
 * nn_make.h
 *	  ONNX models made by hand: a writer of protocol buffers and a small network.
 *
 * Tests of the reader need models that are wrong in one chosen way; these
 * helpers write exactly what they are told.
 */
#ifndef MILLRACE_NN_MAKE_H
#define MILLRACE_NN_MAKE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct pbw
{
	uint8_t    *p;
	size_t		len,
				cap;
} pbw;

static __attribute__((unused)) void
pbw_raw(pbw *w, const void *data, size_t len)
{
	if (w->len + len > w->cap)
	{
		w->cap = (w->len + len) * 2 + 64;
		w->p = realloc(w->p, w->cap);
		if (w->p == NULL)
			abort();
	}
	if (len)
		memcpy(w->p + w->len, data, len);
	w->len += len;
}

static __attribute__((unused)) void
pbw_varint(pbw *w, uint64_t v)
{
	do
	{
		uint8_t		b = (uint8_t) ((v & 0x7f) | (v > 0x7f ? 0x80 : 0));

		pbw_raw(w, &b, 1);
		v >>= 7;
	} while (v);
}

static __attribute__((unused)) void
pbw_int(pbw *w, int field, int64_t v)
{
	pbw_varint(w, (uint64_t) field << 3);
	pbw_varint(w, (uint64_t) v);
}

static __attribute__((unused)) void
pbw_bytes(pbw *w, int field, const void *data, size_t len)
{
	pbw_varint(w, (uint64_t) field << 3 | 2);
	pbw_varint(w, len);
	pbw_raw(w, data, len);
}

static __attribute__((unused)) void
pbw_str(pbw *w, int field, const char *s)
{
	pbw_bytes(w, field, s, strlen(s));
}

/* A finished message as a field of another; releases it. */
static __attribute__((unused)) void
pbw_message(pbw *w, int field, pbw *m)
{
	pbw_bytes(w, field, m->p, m->len);
	free(m->p);
	memset(m, 0, sizeof(*m));
}

/* Reproducible noise in [-1, 1]. */
static __attribute__((unused)) float
noise(void)
{
	static uint32_t seed = 12345;

	seed = seed * 1664525u + 1013904223u;
	return (float) (int32_t) seed / 2147483648.0f;
}

/* ---- parts of a graph ---- */

/* Comma-separated list of strings, each as one field. */
static __attribute__((unused)) void
pbw_list(pbw *w, int field, const char *list)
{
	while (*list)
	{
		size_t		n = strcspn(list, ",");

		pbw_bytes(w, field, list, n);
		list += n + (list[n] == ',');
	}
}

/* Attribute of ints. */
static __attribute__((unused)) void
attr_ints(pbw *node, const char *name, int n, const int64_t *v)
{
	pbw			a = {0};

	pbw_str(&a, 1, name);
	for (int i = 0; i < n; i++)
		pbw_int(&a, 8, v[i]);
	pbw_int(&a, 20, 7);
	pbw_message(node, 5, &a);
}

static __attribute__((unused)) void
attr_int(pbw *node, const char *name, int64_t v)
{
	pbw			a = {0};

	pbw_str(&a, 1, name);
	pbw_int(&a, 3, v);
	pbw_int(&a, 20, 2);
	pbw_message(node, 5, &a);
}

static __attribute__((unused)) pbw
make_node(const char *op, const char *name, const char *inputs, const char *outputs)
{
	pbw			n = {0};

	pbw_list(&n, 1, inputs);
	pbw_list(&n, 2, outputs);
	pbw_str(&n, 3, name);
	pbw_str(&n, 4, op);
	return n;
}

/* An input (11) or output (12) with dimensions as "N,3,h,w": numbers and names. */
static __attribute__((unused)) void
named_port(pbw *graph, int field, const char *name, int dtype, const char *dims)
{
	pbw			port = {0},
				type = {0},
				tensor = {0},
				s = {0};

	while (*dims)
	{
		pbw			dim = {0};
		size_t		n = strcspn(dims, ",");

		if (*dims >= '0' && *dims <= '9')
			pbw_int(&dim, 1, atoi(dims));
		else
			pbw_bytes(&dim, 2, dims, n);
		pbw_message(&s, 1, &dim);
		dims += n + (dims[n] == ',');
	}
	pbw_int(&tensor, 1, dtype);
	pbw_message(&tensor, 2, &s);
	pbw_message(&type, 1, &tensor);
	pbw_str(&port, 1, name);
	pbw_message(&port, 2, &type);
	pbw_message(graph, field, &port);
}

static __attribute__((unused)) void
add_node(pbw *graph, const char *op, const char *inputs, const char *outputs)
{
	pbw			n = make_node(op, outputs, inputs, outputs);

	pbw_message(graph, 1, &n);
}

/* A float initializer of noise * scale + shift. */
static __attribute__((unused)) void
add_weights(pbw *graph, const char *name, int rank, const int64_t *dims, float scale, float shift)
{
	pbw			t = {0};
	size_t		n = 1;
	float	   *v;

	for (int i = 0; i < rank; i++)
	{
		pbw_int(&t, 1, dims[i]);
		n *= (size_t) dims[i];
	}
	v = malloc(n * sizeof(float));
	for (size_t i = 0; i < n; i++)
		v[i] = noise() * scale + shift;
	pbw_int(&t, 2, 1);
	pbw_str(&t, 8, name);
	pbw_bytes(&t, 9, v, n * sizeof(float));
	free(v);
	pbw_message(graph, 5, &t);
}

/* Input (11) or output (12); dims[i] < 0: symbolic. */
static __attribute__((unused)) void
add_port(pbw *graph, int field, const char *name, int dtype, int rank, const int64_t *dims)
{
	pbw			port = {0},
				type = {0},
				tensor = {0},
				shape = {0};

	for (int i = 0; i < rank; i++)
	{
		pbw			dim = {0};

		if (dims[i] < 0)
			pbw_str(&dim, 2, "N");
		else
			pbw_int(&dim, 1, dims[i]);
		pbw_message(&shape, 1, &dim);
	}
	pbw_int(&tensor, 1, dtype);
	pbw_message(&tensor, 2, &shape);
	pbw_message(&type, 1, &tensor);
	pbw_str(&port, 1, name);
	pbw_message(&port, 2, &type);
	pbw_message(graph, field, &port);
}

static __attribute__((unused)) pbw
make_model(pbw *graph, int opset)
{
	pbw			m = {0},
				set = {0};

	pbw_int(&m, 1, 8);
	pbw_str(&m, 2, "nn_make");
	pbw_str(&set, 1, "");
	pbw_int(&set, 2, opset);
	pbw_message(&m, 8, &set);
	pbw_message(&m, 7, graph);
	return m;
}

/*
 * A network with a bit of everything that has a blocked kernel: stem, residual,
 * depthwise, strided 1 x 1, concat, pools, batch norm, Gemm.  x: N x 3 x 12 x 10;
 * outputs features N x 24 and logits N x 5.
 */
static __attribute__((unused)) pbw
make_network(void)
{
	pbw			g = {0},
				n;
	const int64_t one[2] = {1, 1},
				two[2] = {2, 2},
				three[2] = {3, 3},
				pads[4] = {1, 1, 1, 1};
	const int64_t d16 = 16;

	add_weights(&g, "w1", 4, (int64_t[]) {16, 3, 3, 3}, 0.3f, 0);
	add_weights(&g, "b1", 1, &d16, 0.3f, 0);
	add_weights(&g, "w2", 4, (int64_t[]) {16, 16, 3, 3}, 0.1f, 0);
	add_weights(&g, "scale", 1, &d16, 0.2f, 1);
	add_weights(&g, "shift", 1, &d16, 0.2f, 0);
	add_weights(&g, "mean", 1, &d16, 0.2f, 0);
	add_weights(&g, "var", 1, &d16, 0.2f, 1);
	add_weights(&g, "w3", 4, (int64_t[]) {16, 1, 3, 3}, 0.3f, 0);
	add_weights(&g, "w4", 4, (int64_t[]) {8, 16, 1, 1}, 0.3f, 0);
	add_weights(&g, "w5", 4, (int64_t[]) {5, 24, 1, 1}, 0.3f, 0);
	add_weights(&g, "fc", 2, (int64_t[]) {5, 24}, 0.3f, 0);
	add_weights(&g, "fcb", 1, (int64_t[]) {5}, 0.3f, 0);
	add_port(&g, 11, "x", 1, 4, (int64_t[]) {-1, 3, 12, 10});

	n = make_node("Conv", "stem", "x,w1,b1", "c1");
	attr_ints(&n, "pads", 4, pads);
	attr_ints(&n, "kernel_shape", 2, three);
	pbw_message(&g, 1, &n);
	n = make_node("Relu", "r1", "c1", "a1");
	pbw_message(&g, 1, &n);
	n = make_node("Conv", "body", "a1,w2", "c2");
	attr_ints(&n, "pads", 4, pads);
	pbw_message(&g, 1, &n);
	n = make_node("BatchNormalization", "bn", "c2,scale,shift,mean,var", "n2");
	pbw_message(&g, 1, &n);
	n = make_node("Add", "sum", "n2,a1", "s2");
	pbw_message(&g, 1, &n);
	n = make_node("Relu", "r2", "s2", "a2");
	pbw_message(&g, 1, &n);
	n = make_node("Conv", "depthwise", "a2,w3", "c3");
	attr_ints(&n, "pads", 4, pads);
	attr_ints(&n, "strides", 2, two);
	attr_int(&n, "group", 16);
	pbw_message(&g, 1, &n);
	n = make_node("MaxPool", "pool", "a2", "m3");
	attr_ints(&n, "kernel_shape", 2, two);
	attr_ints(&n, "strides", 2, two);
	pbw_message(&g, 1, &n);
	n = make_node("Conv", "point", "m3,w4", "c4");
	attr_ints(&n, "strides", 2, one);
	pbw_message(&g, 1, &n);
	n = make_node("Concat", "cat", "c3,c4", "cc");
	attr_int(&n, "axis", 1);
	pbw_message(&g, 1, &n);
	n = make_node("GlobalAveragePool", "gap", "cc", "gp");
	pbw_message(&g, 1, &n);
	n = make_node("Flatten", "flat", "gp", "features");
	pbw_message(&g, 1, &n);
	n = make_node("Gemm", "fc", "features,fc,fcb", "logits");
	attr_int(&n, "transB", 1);
	pbw_message(&g, 1, &n);
	add_port(&g, 12, "features", 1, 2, (int64_t[]) {-1, 24});
	add_port(&g, 12, "logits", 1, 2, (int64_t[]) {-1, 5});
	return make_model(&g, 13);
}

#endif							/* MILLRACE_NN_MAKE_H */
