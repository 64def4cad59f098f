/*
 * test_nn_conformance.c
 *	  ONNX's own operator cases on every instruction set of this CPU: right, or
 *	  refused for a reason that the documentation states.
 *
 *	  unit/bin/test_nn_conformance [folder [case]]
 *
 * The folder holds one folder a case, as ONNX's archives do: model.onnx,
 * test_data_set_*, input_*.pb, output_*.pb.  Without an argument it is
 * $MILLRACE_CONFORMANCE, or the archive of the real data, unpacked aside.  Each
 * case runs in a process of its own, so a crash or a hang is a wrong case and
 * no more.  A refused case must be named (as a pattern) in docs/operators.md.
 */
#include <fnmatch.h>
#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nn/graph.h"
#include "nn_cases.h"

#define MAX_REFUSED 0.09		/* of the cases */
#define OPEN 0					/* refused ones that are still to be learnt */
#define CASE_SECONDS 20			/* sanitizers and a busy machine included */
#define MAX_PATTERNS 200

typedef enum verdict
{
	right, refused, wrong
} verdict;

typedef struct tensors
{
	int			n;
	nn_tensor	t[NN_MAX_PORTS];
	int32_t		declared[NN_MAX_PORTS];
} tensors;

static char why[400];			/* of the last verdict */

static verdict
say(verdict v, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	return v;
}

/* ---- one case, in a child ---- */

/* input_0.pb, ... of the data set at hand; false if one is no tensor of a known type. */
static bool
read_tensors(nn_graph *g, int set, const char *kind, tensors *out)
{
	for (out->n = 0; out->n < NN_MAX_PORTS; out->n++)
	{
		char		path[80];
		pb_bytes	bytes,
					name;
		size_t		len;

		snprintf(path, sizeof(path), "test_data_set_%d/%s_%d.pb", set, kind, out->n);
		bytes.p = read_file(path, &len);
		if (bytes.p == NULL)
			return true;
		bytes.len = len;
		if (nn_read_tensor(g, bytes, &out->t[out->n], &out->declared[out->n], &name, kind) != MR_OK)
			return false;
	}
	return true;
}

/* The cases' files call bfloat16 uint16; the engine's border has float32. */
static bool
widen_bfloat16(nn_graph *g, const nn_tensor_info *info, nn_tensor *t)
{
	const uint16_t *half = t->data;
	uint32_t   *wide;

	if (t->dtype != nn_uint16 || info->dtype != nn_float32)
		return false;
	wide = nn_heap_alloc(g->heap, (size_t) t->elements + 1, sizeof(float));
	for (int64_t i = 0; i < t->elements; i++)
		wide[i] = (uint32_t) half[i] << 16;
	t->data = wide;
	t->dtype = nn_float32;
	return true;
}

static bool
close_to(const nn_tensor *expected, const void *got, double rtol, int64_t *at)
{
	size_t		size = nn_dtype_size(expected->dtype);

	for (int64_t i = 0; i < expected->elements; i++)
	{
		float		e,
					y;

		*at = i;
		if (expected->dtype != nn_float32)
		{
			if (memcmp((const char *) expected->data + (size_t) i * size, (const char *) got + (size_t) i * size, size) != 0)
				return false;
			continue;
		}
		e = ((const float *) expected->data)[i];
		y = ((const float *) got)[i];
		if (e != y && !(isnan(e) && isnan(y)) && !(fabs((double) e - y) <= 1e-5 + rtol * fabs((double) e)))
			return false;
	}
	return true;
}

static verdict
compare(nn_graph *g, const nn_model *m, int k, nn_tensor *expected, int declared, const nn_shape *shape, const void *got)
{
	const nn_tensor_info *info = nn_output(m, k);
	double		rtol = widen_bfloat16(g, info, expected) || declared == nn_bfloat16 ? 2e-2 : declared == nn_float16 ? 3e-3 : 1e-3;
	int64_t		at = 0;

	if (!nn_shape_equal(shape, &expected->shape))
		return say(wrong, "output %d has another shape", k);
	if (info->dtype != expected->dtype)
		return say(wrong, "output %d is %s, not %s", k, nn_dtype_name((nn_dtype) info->dtype),
				   nn_dtype_name((nn_dtype) expected->dtype));
	if (!close_to(expected, got, rtol, &at))
		return say(wrong, "output %d differs at %lld: %g, not %g", k, (long long) at,
				   info->dtype == nn_float32 ? ((const float *) got)[at] : 0,
				   info->dtype == nn_float32 ? ((const float *) expected->data)[at] : 0);
	return right;
}

/* The model compiled for this set's inputs, opened and run. */
static verdict
run_set(nn_graph *g, const uint8_t *onnx, size_t len, nn_isa isa, int set)
{
	nn_options	opt = nn_default_options;
	tensors		in,
				out;
	nn_shape	shapes[NN_MAX_PORTS];
	const void *inputs[NN_MAX_PORTS];
	const void *values[NN_MAX_PORTS];
	void	   *outputs[NN_MAX_PORTS];
	nn_shape	found[NN_MAX_PORTS];
	uint8_t    *file;
	size_t		file_len;
	nn_model	m;
	verdict		v = right;

	opt.isa = isa;
	if (!read_tensors(g, set, "input", &in) || !read_tensors(g, set, "output", &out))
	{
		/* sequences, strings: the model must not be taken either */
		if (nn_compile(&mr_env_malloc, onnx, len, &opt, &file, &file_len, g->st) == MR_UNSUPPORTED)
			return say(refused, "%s", g->st->message);
		return say(wrong, "the case's data cannot be read: %s", g->st->message);
	}
	for (int i = 0; i < in.n; i++)
	{
		shapes[i] = in.t[i].shape;
		values[i] = in.t[i].dtype == nn_uint16 ? NULL : in.t[i].data;
	}
	if (nn_compile_for(&mr_env_malloc, onnx, len, &opt, in.n, shapes, values, &file, &file_len, g->st) != MR_OK)
		return say(g->st->code == MR_UNSUPPORTED ? refused : wrong, "%s", g->st->message);
	if (nn_verify(file, file_len, g->st) != MR_OK ||
		nn_open_class(file, file_len, in.n, shapes, values, &m, g->st) != MR_OK)
		return say(wrong, "does not open: %.300s", g->st->message);
	if (in.n != nn_n_inputs(&m) || out.n != nn_n_outputs(&m))
		return say(wrong, "%d inputs and %d outputs, not %d and %d", nn_n_inputs(&m), nn_n_outputs(&m), in.n, out.n);
	for (int i = 0; i < in.n; i++)
	{
		widen_bfloat16(g, nn_input(&m, i), &in.t[i]);
		if (in.t[i].dtype != nn_input(&m, i)->dtype || in.t[i].elements != nn_input(&m, i)->elements)
			return say(wrong, "input %d is not what the case has", i);
		inputs[i] = in.t[i].data;
	}
	for (int i = 0; i < out.n; i++)
		outputs[i] = nn_heap_alloc(g->heap, (size_t) nn_output(&m, i)->elements + 1, 8);
	if (nn_run_shaped(&m, &mr_env_malloc, nn_heap_alloc(g->heap, nn_workspace(&m) + 1, 1), 1, inputs, outputs, found, g->st) != MR_OK)
		return say(wrong, "run: %.300s", g->st->message);
	for (int i = 0; i < out.n && v == right; i++)
		v = compare(g, &m, i, &out.t[i], out.declared[i], &found[i], outputs[i]);
	mr_free(&mr_env_malloc, file);
	return v;
}

static verdict
run_case(nn_isa isa)
{
	char		path[40];
	size_t		len;
	uint8_t    *onnx;
	mr_status	st = {0};
	nn_heap		heap;
	nn_graph	g = {0};
	verdict		v = right;

	onnx = read_file("model.onnx", &len);
	if (onnx == NULL)
		return say(wrong, "no model.onnx");
	nn_heap_init(&heap, &mr_env_malloc, (size_t) 1 << 30, &st);
	g.heap = &heap;
	g.env = &mr_env_malloc;
	g.st = &st;
	for (int set = 0; v == right; set++)
	{
		snprintf(path, sizeof(path), "test_data_set_%d", set);
		if (access(path, R_OK) != 0)
			return set ? right : say(wrong, "no test_data_set_0");
		v = run_set(&g, onnx, len, isa, set);
	}
	return v;
}

/* ---- all cases ---- */

static int	n_isas;
static nn_isa isas[16];

static void
find_isas(void)
{
	for (int i = nn_isa_portable; strcmp(nn_isa_name((nn_isa) i), "unknown") != 0 && n_isas < 16; i++)
		if (nn_isa_available((nn_isa) i))
			isas[n_isas++] = (nn_isa) i;
}

typedef struct report
{
	int			v;
	char		isa[16];
	char		why[400];
} report;

/* A process for the case; the worst verdict of its instruction sets. */
static report
run_apart(const char *name)
{
	report		r = {wrong, "", ""};
	int			ends[2];
	pid_t		child;
	int			status = 0;
	ssize_t		got;

	if (pipe(ends) != 0 || (child = fork()) < 0)
	{
		perror("fork");
		exit(2);
	}
	if (child == 0)
	{
		if (chdir(name) != 0)
			_exit(1);
		alarm(CASE_SECONDS);
		r.v = right;
		for (int i = 0; i < n_isas; i++)
		{
			verdict		v = run_case(isas[i]);

			if ((int) v <= r.v)
				continue;
			r.v = v;
			snprintf(r.isa, sizeof(r.isa), "%s", nn_isa_name(isas[i]));
			memcpy(r.why, why, sizeof(r.why));
		}
		_exit(write(ends[1], &r, sizeof(r)) == sizeof(r) ? 0 : 1);
	}
	close(ends[1]);
	got = read(ends[0], &r, sizeof(r));
	close(ends[0]);
	waitpid(child, &status, 0);
	if (got != sizeof(r) || status != 0)
	{
		r.v = wrong;
		snprintf(r.why, sizeof(r.why), WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "hangs" : "crashes (status %d)",
				 status);
	}
	return r;
}

/* Words `test_...` of the documentation: the cases that may be refused. */
static int	n_patterns;
static char patterns[MAX_PATTERNS][80];

static void
read_documentation(void)
{
	size_t		len;
	char	   *text = (char *) read_file("docs/operators.md", &len);

	if (text == NULL)
		return;
	for (char *p = text; p < text + len; p++)
	{
		size_t		n = 1;

		if (*p != '`')
			continue;
		while (p + n < text + len && p[n] != '`' && p[n] != '\n')
			n++;
		if (n > 6 && n < sizeof(patterns[0]) && n_patterns < MAX_PATTERNS && memcmp(p + 1, "test_", 5) == 0)
			snprintf(patterns[n_patterns++], sizeof(patterns[0]), "%.*s", (int) n - 1, p + 1);
		p += n;
	}
	free(text);
}

static bool
documented(const char *name)
{
	for (int i = 0; i < n_patterns; i++)
		if (fnmatch(patterns[i], name, 0) == 0)
			return true;
	return false;
}

int
main(int argc, char **argv)
{
	static char *names[MAX_CASES];
	int			count[3] = {0},
				undocumented = 0,
				n;

	find_isas();
	read_documentation();
	n = cases_enter(argc > 1 ? argv[1] : NULL, names);
	if (n < 0)
	{
		skip("no conformance cases (MILLRACE_CONFORMANCE, ../shared/data)");
		return done_testing();
	}
	for (int i = 0; i < n; i++)
	{
		report		r;

		if (argc > 2 && fnmatch(argv[2], names[i], 0) != 0)
			continue;
		r = run_apart(names[i]);
		count[r.v]++;
		if (r.v == refused && !documented(names[i]))
			undocumented++;
		if (r.v == wrong || (r.v == refused && (argc > 1 || !documented(names[i]))))
			printf("# %s on %s: %s: %s\n", r.v == wrong ? "wrong" : "refused", r.isa, names[i], r.why);
	}
	cases_leave(names, n);
	printf("# %d right, %d refused, %d wrong, on %d instruction sets\n", count[right], count[refused], count[wrong], n_isas);
	ok(count[right] > 0 && count[wrong] == 0, "%d cases: none is wrong, crashes or hangs", n);
	ok(undocumented <= OPEN, "each refused case is named in docs/operators.md (%d are not)", undocumented);
	ok(count[refused] <= MAX_REFUSED * n + OPEN, "%d cases are refused, at most %.0f %%", count[refused], MAX_REFUSED * 100);
	return done_testing();
}
