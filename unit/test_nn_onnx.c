/*
 * test_nn_onnx.c
 *	  Reading models: limits, refusals that name their reason, and no crash on
 *	  truncated, flipped or rearranged bytes.
 */
#include <time.h>

#include "nn/graph.h"
#include "nn_make.h"
#include "unit.h"

/* ---- an environment with a deadline and a cap on memory ---- */

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static double deadline;
static double late;				/* worst time between two questions past the deadline */

static bool
timed_out(void *arg)
{
	(void) arg;
	return now() > deadline;
}

static mr_env
timed_env(double seconds)
{
	mr_env		env = mr_env_malloc;

	env.interrupted = timed_out;
	deadline = now() + seconds;
	return env;
}

/* Compile, open, run: any code but INTERNAL and CORRUPT is a good answer. */
static bool
survives(const uint8_t *onnx, size_t len, size_t memory, int *compiled)
{
	nn_options	opt = nn_default_options;
	mr_env		env = timed_env(0.3);
	mr_status	st = {0};
	uint8_t    *file = NULL;
	size_t		flen;
	nn_model	m;
	mr_code		rc;

	opt.max_memory = memory;
	rc = nn_compile(&env, onnx, len, &opt, &file, &flen, &st);
	if (now() - deadline > late)
		late = now() - deadline;
	if (rc != MR_OK)
	{
		if (file != NULL || rc == MR_INTERNAL || rc == MR_CORRUPT || st.code != rc || st.message[0] == '\0')
		{
			printf("# code %d: %s\n", rc, st.message);
			return false;
		}
		return true;
	}
	(*compiled)++;
	rc = nn_open(file, flen, &m, &st);
	if (rc != MR_OK)
		printf("# compiled, but does not open: %s\n", st.message);
	else
	{
		void	   *ws = aligned_alloc(64, nn_workspace(&m) ? nn_workspace(&m) : 64);
		const void *in[NN_MAX_PORTS];
		void	   *out[NN_MAX_PORTS];

		deadline = now() + 0.3;
		for (int i = 0; i < nn_n_inputs(&m); i++)
			in[i] = calloc((size_t) nn_input(&m, i)->elements + 1, nn_dtype_size(nn_input(&m, i)->dtype));
		for (int i = 0; i < nn_n_outputs(&m); i++)
			out[i] = malloc(((size_t) nn_output(&m, i)->elements + 1) * nn_dtype_size(nn_output(&m, i)->dtype));
		rc = nn_run_typed(&m, &env, ws, 1, in, out, &st);
		if (rc == MR_INTERNAL || rc == MR_CORRUPT)
			printf("# run gave %d: %s\n", rc, st.message);
		else
			rc = MR_OK;
		for (int i = 0; i < nn_n_inputs(&m); i++)
			free((void *) in[i]);
		for (int i = 0; i < nn_n_outputs(&m); i++)
			free(out[i]);
		free(ws);
	}
	mr_free(&mr_env_malloc, file);
	return rc == MR_OK;
}

/* ---- wrong in one way each ---- */

/* A graph x -> op -> y, built up to the point where the test differs. */
static pbw
one_node(const char *op, const char *inputs)
{
	pbw			g = {0};
	pbw			n = make_node(op, "the node", inputs, "y");

	add_port(&g, 11, "x", 1, 2, (int64_t[]) {-1, 8});
	pbw_message(&g, 1, &n);
	add_port(&g, 12, "y", 1, 2, (int64_t[]) {-1, 8});
	return g;
}

/* Takes the model; checks code and that the message contains each word. */
static void
refused(const char *what, pbw m, mr_code code, const char *words)
{
	nn_summary	s;
	mr_status	st = {0};
	mr_code		rc = nn_check(&mr_env_malloc, m.p, m.len, NULL, &s, &st);
	bool		good = rc == code && st.code == code;
	char		copy[256];

	snprintf(copy, sizeof(copy), "%s", words);
	for (char *w = strtok(copy, "|"); w; w = strtok(NULL, "|"))
		good = good && strstr(st.message, w) != NULL;
	ok(good, "%s: %s", what, st.message);
	nn_summary_free(&mr_env_malloc, &s);
	free(m.p);
}

static void
refusals(void)
{
	pbw			g,
				t = {0},
				n,
				entry = {0},
				m;
	const int64_t eight = 8;

	g = one_node("Frobnicate", "x");
	refused("unknown operator", make_model(&g, 13), MR_UNSUPPORTED, "Frobnicate|13|the node|not supported");
	g = one_node("HardSwish", "x");
	refused("operator newer than its opset", make_model(&g, 13), MR_UNSUPPORTED, "HardSwish|13|the node|opset");
	g = one_node("Relu", "x");
	refused("opset too new", make_model(&g, 99), MR_UNSUPPORTED, "99");
	g = one_node("Relu", "x");
	refused("opset too old", make_model(&g, 3), MR_UNSUPPORTED, "3");
	g = one_node("Relu", "z");
	refused("unknown input", make_model(&g, 13), MR_INVALID, "Relu|\"z\"|not defined");
	g = one_node("Relu", "y");
	refused("a cycle", make_model(&g, 13), MR_INVALID, "Relu|\"y\"|cycle");
	g = one_node("Relu", "x,x");
	refused("too many inputs", make_model(&g, 13), MR_INVALID, "Relu|2 inputs");
	g = one_node("Relu", "x");
	n = make_node("Relu", "second", "x", "y");
	pbw_message(&g, 1, &n);
	refused("a value defined twice", make_model(&g, 13), MR_INVALID, "second|twice");

	g = one_node("Add", "x,w");
	pbw_int(&t, 1, 8);
	pbw_int(&t, 2, 1);
	pbw_str(&t, 8, "w");
	pbw_str(&entry, 1, "location");
	pbw_str(&entry, 2, "/etc/passwd");
	pbw_message(&t, 13, &entry);
	pbw_int(&t, 14, 1);
	pbw_message(&g, 5, &t);
	refused("external data", make_model(&g, 13), MR_UNSUPPORTED, "external data");

	g = one_node("Add", "x,w");
	pbw_int(&t, 1, 8);
	pbw_int(&t, 2, 1);
	pbw_str(&t, 8, "w");
	pbw_bytes(&t, 9, "1234567", 7);
	pbw_message(&g, 5, &t);
	refused("raw data of the wrong length", make_model(&g, 13), MR_INVALID, "do not match");

	g = one_node("Add", "x,w");
	for (int i = 0; i < 4; i++)
		pbw_int(&t, 1, 1 << 20);
	pbw_int(&t, 2, 1);
	pbw_str(&t, 8, "w");
	pbw_message(&g, 5, &t);
	refused("a shape that overflows", make_model(&g, 13), MR_INVALID, "impossible shape");

	g = one_node("Add", "x,w");
	for (int i = 0; i < 9; i++)
		pbw_int(&t, 1, 1);
	pbw_int(&t, 2, 1);
	pbw_str(&t, 8, "w");
	pbw_message(&g, 5, &t);
	refused("nine dimensions", make_model(&g, 13), MR_UNSUPPORTED, "dimensions");

	g = one_node("Add", "x,w");
	add_weights(&g, "w", 1, (int64_t[]) {7}, 1, 0);
	refused("shapes that do not broadcast", make_model(&g, 13), MR_INVALID, "Add|the node|broadcast");

	g = one_node("Add", "x,w");
	add_weights(&g, "w", 1, &eight, 1, 0);
	add_weights(&g, "w", 1, &eight, 1, 0);
	refused("an initializer twice", make_model(&g, 13), MR_INVALID, "\"w\"|twice");

	g = one_node("Relu", "x");
	add_port(&g, 12, "nowhere", 1, 1, &eight);
	refused("an output that nobody computes", make_model(&g, 13), MR_INVALID, "output");

	memset(&g, 0, sizeof(g));
	n = make_node("If", "the node", "x", "y");
	add_port(&g, 11, "x", 9, 1, (int64_t[]) {1});
	pbw_message(&g, 1, &n);
	refused("control flow", make_model(&g, 13), MR_UNSUPPORTED, "If|the node");

	memset(&g, 0, sizeof(g));
	refused("an empty graph", make_model(&g, 13), MR_INVALID, "no nodes");
	memset(&m, 0, sizeof(m));
	pbw_str(&m, 2, "hello");
	refused("no graph", m, MR_INVALID, "not an ONNX model");
	memset(&m, 0, sizeof(m));
	pbw_str(&m, 0, "");
	pbw_raw(&m, "\xff\xd8\xff\xe0 JFIF", 9);
	refused("a JPEG", m, MR_INVALID, "not an ONNX model");

	/* windows: what would divide by zero or read outside */
	{
		static const struct
		{
			const char *what,
					   *attr;
			int64_t		v[4];
			int			n;
		}			bad[] = {
			{"stride 0", "strides", {0, 1}, 2},
			{"stride of one number", "strides", {1}, 1},
			{"dilation -1", "dilations", {-1, 1}, 2},
			{"negative pad", "pads", {-1, 0, 0, 0}, 4},
			{"huge pad", "pads", {INT64_MAX, 0, 0, 0}, 4},
			{"kernel_shape unlike the weights", "kernel_shape", {5, 5}, 2},
			{"INT64_MIN stride", "strides", {INT64_MIN, 1}, 2},
			{"window larger than the input", "dilations", {4000, 4000}, 2},
		};

		for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		{
			memset(&g, 0, sizeof(g));
			n = make_node("Conv", "the conv", "x,w", "y");
			attr_ints(&n, bad[i].attr, bad[i].n, bad[i].v);
			add_weights(&g, "w", 4, (int64_t[]) {4, 3, 3, 3}, 1, 0);
			add_port(&g, 11, "x", 1, 4, (int64_t[]) {-1, 3, 8, 8});
			pbw_message(&g, 1, &n);
			add_port(&g, 12, "y", 1, 4, (int64_t[]) {-1, 4, 6, 6});
			refused(bad[i].what, make_model(&g, 13), MR_INVALID, "Conv|the conv|13");
		}
	}
	memset(&g, 0, sizeof(g));
	n = make_node("Conv", "the conv", "x,w", "y");
	attr_int(&n, "group", 0);
	add_weights(&g, "w", 4, (int64_t[]) {4, 3, 3, 3}, 1, 0);
	add_port(&g, 11, "x", 1, 4, (int64_t[]) {-1, 3, 8, 8});
	pbw_message(&g, 1, &n);
	add_port(&g, 12, "y", 1, 4, (int64_t[]) {-1, 4, 6, 6});
	refused("group 0", make_model(&g, 13), MR_INVALID, "Conv|groups");
}

/* ---- limits and summary ---- */

static void
limits(const pbw *net)
{
	nn_options	opt = nn_default_options;
	nn_summary	s;
	mr_status	st = {0};
	uint8_t    *file;
	size_t		len;

	opt.max_model_bytes = net->len - 1;
	ok(nn_check(&mr_env_malloc, net->p, net->len, &opt, &s, &st) == MR_LIMIT, "max_model_bytes: %s", st.message);
	opt = nn_default_options;
	opt.max_nodes = 12;
	ok(nn_check(&mr_env_malloc, net->p, net->len, &opt, &s, &st) == MR_LIMIT, "max_nodes: %s", st.message);
	opt = nn_default_options;
	opt.max_memory = 40000;
	ok(nn_compile(&mr_env_malloc, net->p, net->len, &opt, &file, &len, &st) == MR_LIMIT, "max_memory: %s", st.message);

	ok(nn_check(&mr_env_malloc, net->p, net->len, NULL, &s, &st) == MR_OK, "the network is good");
	ok(s.n_inputs == 1 && s.n_outputs == 2 && strcmp(s.outputs[1].name, "logits") == 0 && s.outputs[1].dims[0] == -1 &&
	   s.inputs[0].dims[3] == 10 && s.opset == 13 && s.n_nodes == 13 && s.n_operators == 9 &&
	   strcmp(s.operators[0], "Conv") == 0 && strcmp(s.producer, "nn_make") == 0 &&
	   s.n_parameters == 16 * 27 + 16 + 16 * 144 + 4 * 16 + 144 + 128 + 120 + 120 + 5, "summary: %d nodes, %d operators, %lld parameters",
	   s.n_nodes, s.n_operators, (long long) s.n_parameters);
	nn_summary_free(&mr_env_malloc, &s);
}

/* ---- mutations ---- */

static uint32_t seed = 7;

static uint32_t
dice(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

/* Change a copy somewhere in its first `span` or last bytes. */
static size_t
mutate(uint8_t *p, size_t len, size_t from, size_t span)
{
	size_t		at = from + dice((uint32_t) span);
	size_t		n = 1 + dice(12);

	at = at < len ? at : len - 1;
	switch (dice(6))
	{
		case 0:
			p[at] ^= (uint8_t) (1 << dice(8));
			return len;
		case 1:
			p[at] = (uint8_t) dice(256);
			return len;
		case 2:				/* cut */
			n = at + n > len ? len - at : n;
			memmove(p + at, p + at + n, len - at - n);
			return len - n;
		case 3:				/* repeat */
			n = at + n > len ? len - at : n;
			memmove(p + at + n, p + at, len - at);
			return len + n;
		case 4:				/* a huge number */
			for (size_t i = 0; i < 5 && at + i < len; i++)
				p[at + i] = 0xff;
			return len;
		default:				/* move bytes from elsewhere */
			n = at + n > len ? len - at : n;
			memmove(p + at, p + dice((uint32_t) (len - n)), n);
			return len;
	}
}

static void
mutations(const char *what, const uint8_t *onnx, size_t len, size_t from, size_t span, int rounds, size_t memory)
{
	uint8_t    *copy = malloc(len + 64);
	int			bad = 0,
				compiled = 0;

	late = 0;
	for (int i = 0; i < rounds; i++)
	{
		size_t		n = len;

		memcpy(copy, onnx, len);
		for (uint32_t k = dice(3); k != UINT32_MAX; k--)
			n = mutate(copy, n < len ? n : len, from < n ? from : 0, span < n / 2 ? span : n / 2);
		bad += !survives(copy, n, memory, &compiled);
	}
	ok(bad == 0, "%s: %d mutations, %d still compile", what, rounds, compiled);
	/* sanitizers and a busy machine make this slow: a hang is what is looked for */
	ok(late < 2, "%s: each stops when asked (%.0f ms late at most)", what, late * 1e3);
	free(copy);
}

int
main(void)
{
	pbw			net = make_network();
	static const char *const models[] = {"resnet20_cifar10", "SqueezeNet_fp16", "mobilenetv2_dequant_fp32"};
	int			compiled = 0,
				bad = 0;
	size_t		step = 3;

	refusals();
	limits(&net);
	for (size_t n = 0; n < net.len; n += step)
		bad += !survives(net.p, n, (size_t) 64 << 20, &compiled);
	ok(bad == 0 && compiled == 0, "no truncation of the network compiles or crashes");
	mutations("network", net.p, net.len, 0, net.len, 1200, (size_t) 64 << 20);
	/* the structure before and after the weights */
	mutations("network, head", net.p, net.len, 0, 600, 600, (size_t) 64 << 20);
	mutations("network, graph", net.p, net.len, net.len - 1200, 1200, 1500, (size_t) 64 << 20);
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++)
	{
		char		path[128];
		size_t		len;
		uint8_t    *onnx;

		snprintf(path, sizeof(path), "models/%s.onnx", models[i]);
		onnx = read_file(data_path(path), &len);
		if (onnx == NULL)
		{
			skip("no ../shared/data/models");
			continue;
		}
		mutations(models[i], onnx, len, 0, 6000, 25, (size_t) 256 << 20);
		free(onnx);
	}
	free(net.p);
	return done_testing();
}
