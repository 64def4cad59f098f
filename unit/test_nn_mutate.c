/*
 * test_nn_mutate.c
 *	  Damaged model files: an error or a run, within bounds of time and memory,
 *	  never a crash, a hang or a leak.  20,000 of them in make check-full.
 *
 *	  unit/bin/test_nn_mutate [count [first]]
 *
 * The files are ONNX's own cases and some models of ai.onnx.ml, each changed in
 * one to three places: bytes flipped, cut, repeated; or fields of the protocol
 * buffer dropped, doubled, exchanged, set to extreme numbers, or taken from
 * another model, with all lengths around them right.  A mutation follows from
 * its number alone.  Batches run in processes of their own.
 */
#include <math.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "nn/graph.h"
#include "nn_cases.h"
#include "nn_make.h"

#define BATCH 250				/* mutations a process */
#define RUN_SECONDS 0.2			/* then the engine is asked to stop */
#define MAX_SECONDS 3			/* of processor time for one file, under sanitizers */
#define MAX_MEMORY ((size_t) 32 << 20)

/* ---- an environment that counts ---- */

typedef struct watch
{
	size_t		live,
				peak;
	double		deadline;
	uint32_t	asked;
} watch;

static double
cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static void *
watch_alloc(void *arg, size_t size)
{
	watch	   *w = arg;
	size_t	   *p = size > SIZE_MAX / 2 ? NULL : aligned_alloc(64, (size + 127) / 64 * 64);

	if (p == NULL)
		return NULL;
	*p = size;
	w->live += size;
	w->peak = w->live > w->peak ? w->live : w->peak;
	return (char *) p + 64;
}

static void
watch_release(void *arg, void *ptr)
{
	size_t	   *p = (size_t *) (void *) ((char *) ptr - 64);

	((watch *) arg)->live -= *p;
	free(p);
}

static bool
watch_interrupted(void *arg)
{
	return cpu_seconds() > ((watch *) arg)->deadline;
}

/* ---- dice: the same for the same number ---- */

static uint64_t state;

static uint32_t
dice(uint32_t n)
{
	state += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t	z = state;

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return n ? (uint32_t) ((z ^ z >> 31) >> 33) % n : 0;
}

/* ---- mutations ---- */

typedef struct model
{
	uint8_t    *p;
	size_t		len;
} model;

static model corpus[MAX_CASES + 16];
static int	n_corpus;

/* Models of one operator stand together; each operator has the same chance. */
static int	groups[MAX_CASES + 16];
static int	n_groups;

static const model *
some_model(void)
{
	int			g = (int) dice((uint32_t) n_groups);
	int			end = g + 1 < n_groups ? groups[g + 1] : n_corpus;

	return &corpus[groups[g] + (int) dice((uint32_t) (end - groups[g]))];
}

static void
mutate_bytes(pbw *w)
{
	size_t		at = dice((uint32_t) w->len),
				n = 1 + dice(12);

	n = n > w->len - at ? w->len - at : n;
	switch (dice(6))
	{
		case 0:
			w->p[at] ^= (uint8_t) (1 << dice(8));
			break;
		case 1:
			w->p[at] = (uint8_t) dice(256);
			break;
		case 2:
			w->len = at;
			break;
		case 3:
			memmove(w->p + at, w->p + at + n, w->len - at - n);
			w->len -= n;
			break;
		case 4:
			memset(w->p + at, 0xff, n);
			break;
		default:
			memmove(w->p + at, w->p + dice((uint32_t) (w->len - n + 1)), n);
	}
}

/* A number that may still be good, or one that seldom is. */
static uint64_t
other_number(uint64_t v)
{
	static const uint64_t numbers[] = {
		0, 1, 2, 3, 7, 8, 64, 255, 65536, INT32_MAX, UINT64_C(1) << 31, UINT32_MAX, UINT64_C(1) << 32, INT64_MAX,
		UINT64_C(1) << 63, UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 7
	};
	switch (dice(4))
	{
		case 0:
			return v + 1;
		case 1:
			return v - 1;
		case 2:
			return dice(18);
	}
	return numbers[dice(sizeof(numbers) / sizeof(numbers[0]))];
}

static void
write_field(pbw *w, const pb_field *f)
{
	pbw_varint(w, (uint64_t) f->number << 3 | (uint64_t) f->wire);
	if (f->wire == pb_length)
	{
		pbw_varint(w, f->bytes.len);
		pbw_raw(w, f->bytes.p, f->bytes.len);
	}
	else if (f->wire == pb_varint)
		pbw_varint(w, f->value);
	else
		pbw_raw(w, &f->value, f->wire == pb_fixed32 ? 4 : 8);
}

/* Does it read as a message of several fields?  Text seldom does. */
static bool
is_message(pb_bytes b, int *fields)
{
	pb_reader	r = pb_open(b);
	pb_field	f;

	*fields = 0;
	while (pb_next(&r, &f))
		(*fields)++;
	return !r.bad && *fields > 0;
}

/* Some field at that depth or deeper of another model: as a whole. */
static bool
foreign_field(pb_field *f)
{
	const model *m = some_model();
	pb_bytes	b = {m->p, m->len};
	int			n;

	for (int depth = 0; depth < 6 && is_message(b, &n); depth++)
	{
		pb_reader	r = pb_open(b);

		for (uint32_t k = dice((uint32_t) n) + 1; k && pb_next(&r, f); k--)
			;
		if (depth > 1 && dice(3) == 0)
			return true;
		if (f->wire != pb_length)
			return depth > 0;
		b = f->bytes;
	}
	return false;
}

/* A list of numbers (packed, or a tensor's raw data) with one changed. */
static void
mutate_content(pbw *w, pb_bytes b)
{
	static const float floats[] = {NAN, INFINITY, -INFINITY, 1e38f, -1e-40f, 0, -1};
	size_t		size = (size_t) 1 << dice(4);

	pbw_raw(w, b.p, b.len);
	if (b.len >= size)
	{
		uint8_t    *at = w->p + w->len - b.len + dice((uint32_t) (b.len / size)) * size;
		uint64_t	v = other_number(0);

		memcpy(at, size == 4 && dice(2) ? (const void *) &floats[dice(7)] : &v, size);
	}
	else
		pbw_raw(w, "1234567", 1 + dice(7));
}

/* Copy message b to w with one change, here or further down. */
static void
mutate_message(pbw *w, pb_bytes b, int n, int depth)
{
	pb_reader	r = pb_open(b);
	pb_field	f,
				other;
	int			target = (int) dice((uint32_t) n),
				inner;

	/* mostly somewhere in the graph */
	if (depth == 0 && dice(8))
		for (int i = 0; pb_next(&r, &f); i++)
			target = f.number == 7 ? i : target;
	r = pb_open(b);
	for (int i = 0; pb_next(&r, &f); i++)
	{
		pbw			sub = {0};

		if (i != target)
		{
			write_field(w, &f);
			continue;
		}
		if (f.wire == pb_length && depth < 12 && is_message(f.bytes, &inner) && dice(8) > 0)
		{
			mutate_message(&sub, f.bytes, inner, depth + 1);
			pbw_message(w, (int) f.number, &sub);
			continue;
		}
		switch (dice(f.wire == pb_length ? 8 : 12))
		{
			case 0:				/* dropped */
				break;
			case 1:				/* doubled */
				write_field(w, &f);
				write_field(w, &f);
				break;
			case 2:				/* another number or kind */
				f.number = 1 + dice(21);
				write_field(w, &f);
				break;
			case 3:				/* from elsewhere, before or instead */
				if (foreign_field(&other))
				{
					other.number = dice(2) ? f.number : other.number;
					write_field(w, &other);
				}
				if (dice(2))
					write_field(w, &f);
				break;
			case 4:				/* exchanged with the next */
				other = f;
				if (pb_next(&r, &f))
					write_field(w, &f);
				write_field(w, &other);
				break;
			default:
				if (f.wire == pb_length)
				{
					mutate_content(&sub, f.bytes);
					pbw_message(w, (int) f.number, &sub);
				}
				else
				{
					f.value = other_number(f.value);
					write_field(w, &f);
				}
		}
	}
}

static pbw
mutation(uint32_t number)
{
	const model *m;
	pbw			w = {0};

	state = (uint64_t) number << 20;
	m = some_model();
	pbw_raw(&w, m->p, m->len);
	for (uint32_t k = dice(4) ? 1 : 2 + dice(2); k && w.len > 1; k--)
	{
		pb_bytes	b = {w.p, w.len};
		pbw			changed = {0};
		int			n;

		if (dice(5) == 0 || !is_message(b, &n))
		{
			mutate_bytes(&w);
			continue;
		}
		mutate_message(&changed, b, n, 0);
		pbw_raw(&changed, "", 0);
		free(w.p);
		w = changed;
	}
	return w;
}

/* ---- what the engine makes of one ---- */

static int	n_isas;
static nn_isa isas[16];

/* Floats, mostly small ones; integers that may be indices; bools. */
static void
fill(void *data, size_t n, int dtype)
{
	static const float floats[] = {0, 1, -1, 1e30f, -1e30f, 1e-40f, NAN, INFINITY};

	for (size_t k = 0; k < n; k++)
	{
		uint64_t	v = other_number(dice(8));
		float		f = dice(16) ? noise() * 4 : floats[dice(8)];

		if (dtype == nn_float32)
			((float *) data)[k] = f;
		else if (dtype == nn_bool)
			((uint8_t *) data)[k] = (uint8_t) dice(2);
		else
		{
			v = dice(8) ? (uint64_t) ((int64_t) dice(6) - 2) : v;
			memcpy((char *) data + k * nn_dtype_size(dtype), &v, nn_dtype_size(dtype));
		}
	}
}

/* NULL, or what is wrong. */
static const char *
survive(uint32_t number, const pbw *w, bool *compiled)
{
	static char why[300];
	watch		seen = {0};
	mr_env		env = {watch_alloc, watch_release, watch_interrupted, &seen};
	nn_options	opt = nn_default_options;
	nn_class	classes[2];
	nn_shape	shape = {4, {1, 3, 8, 8}};
	mr_status	st = {0};
	uint8_t    *file = NULL,
			   *exact;
	size_t		len = 0;
	nn_model	m;
	mr_code		rc;
	double		start = cpu_seconds();

	/* exactly as many bytes as there are: reading on is seen */
	exact = malloc(w->len ? w->len : 1);
	if (w->len)
		memcpy(exact, w->p, w->len);
	opt.max_memory = MAX_MEMORY;
	opt.max_nodes = 1000;
	opt.isa = isas[number % (uint32_t) n_isas];
	if (number % 16 == 0)
	{
		memset(classes, 0, sizeof(classes));
		classes[1].n_inputs = 1;
		classes[1].shapes = &shape;
		opt.classes = classes;
		opt.n_classes = 2;
	}
	seen.deadline = start + RUN_SECONDS;
	rc = nn_compile(&env, exact, w->len, &opt, &file, &len, &st);
	free(exact);
	if (rc != MR_OK && (file != NULL || rc == MR_INTERNAL || rc == MR_CORRUPT || st.code != rc || st.message[0] == '\0'))
	{
		snprintf(why, sizeof(why), "refused badly, code %d: %s", rc, st.message);
		return why;
	}
	*compiled = rc == MR_OK;
	if (rc == MR_OK && (rc = nn_verify(file, len, &st)) != MR_OK)
	{
		snprintf(why, sizeof(why), "compiles, but does not open: %s", st.message);
		return why;
	}
	if (rc == MR_OK && (rc = nn_open(file, len, &m, &st)) == MR_OK)
	{
		void	   *ws = aligned_alloc(64, nn_workspace(&m) ? nn_workspace(&m) : 64);
		void	   *in[NN_MAX_PORTS],
				   *out[NN_MAX_PORTS];

		for (int i = 0; i < nn_n_inputs(&m); i++)
		{
			size_t		n = (size_t) nn_input(&m, i)->elements;

			in[i] = malloc(n * nn_dtype_size(nn_input(&m, i)->dtype) + 1);
			fill(in[i], n, nn_input(&m, i)->dtype);
		}
		for (int i = 0; i < nn_n_outputs(&m); i++)
			out[i] = malloc((size_t) nn_output(&m, i)->elements * nn_dtype_size(nn_output(&m, i)->dtype) + 1);
		seen.deadline = cpu_seconds() + RUN_SECONDS;
		rc = nn_run_typed(&m, &env, ws, 1, (const void *const *) in, out, &st);
		for (int i = 0; i < nn_n_inputs(&m); i++)
			free(in[i]);
		for (int i = 0; i < nn_n_outputs(&m); i++)
			free(out[i]);
		free(ws);
		if (rc == MR_INTERNAL || rc == MR_CORRUPT)
		{
			snprintf(why, sizeof(why), "run gives code %d: %s", rc, st.message);
			return why;
		}
	}
	mr_free(&env, file);
	if (seen.live != 0)
		return "memory is left behind";
	if (seen.peak > 4 * MAX_MEMORY)
		return "it takes too much memory";
	if (cpu_seconds() - start > MAX_SECONDS)
		return "it takes too long";
	return NULL;
}

/* ---- models that the cases lack ---- */

static void
attr_list(pbw *node, const char *name, int type, int n, const float *numbers)
{
	pbw			a = {0};

	pbw_str(&a, 1, name);
	for (int i = 0; i < n; i++)
		if (type == 7)
			pbw_int(&a, 8, (int64_t) numbers[i]);
		else
		{
			pbw_varint(&a, 7 << 3 | 5);
			pbw_raw(&a, &numbers[i], 4);
		}
	pbw_int(&a, 20, type);
	pbw_message(node, 5, &a);
}

static void
attr_words(pbw *node, const char *name, const char *list)
{
	pbw			a = {0};

	pbw_str(&a, 1, name);
	pbw_list(&a, 9, list);
	pbw_int(&a, 20, 8);
	pbw_message(node, 5, &a);
}

static void
attr_word(pbw *node, const char *name, const char *word)
{
	pbw			a = {0};

	pbw_str(&a, 1, name);
	pbw_str(&a, 4, word);
	pbw_int(&a, 20, 3);
	pbw_message(node, 5, &a);
}

#define INTS(name, ...) attr_list(&n, name, 7, sizeof((float[]) {__VA_ARGS__}) / sizeof(float), (float[]) {__VA_ARGS__})
#define FLOATS(name, ...) attr_list(&n, name, 6, sizeof((float[]) {__VA_ARGS__}) / sizeof(float), (float[]) {__VA_ARGS__})

/* A model of one node of ai.onnx.ml over 5 x 3 floats. */
static void
add_ml(pbw *n, const char *outputs)
{
	pbw			g = {0},
				m = {0},
				set = {0};

	pbw_str(n, 7, "ai.onnx.ml");
	add_port(&g, 11, "x", 1, 2, (int64_t[]) {5, 3});
	pbw_message(&g, 1, n);
	for (const char *o = outputs; *o; o++)
		add_port(&g, 12, (char[]) {*o, '\0'}, 1, 1, (int64_t[]) {-1});
	pbw_int(&m, 1, 8);
	pbw_str(&set, 1, "ai.onnx.ml");
	pbw_int(&set, 2, 3);
	pbw_message(&m, 8, &set);
	pbw_message(&m, 7, &g);
	corpus[n_corpus].p = m.p;
	corpus[n_corpus++].len = m.len;
}

static void
add_ml_models(void)
{
	pbw			n;

	for (int classifier = 0; classifier < 2; classifier++)
	{
		n = make_node(classifier ? "TreeEnsembleClassifier" : "TreeEnsembleRegressor", "trees", "x", classifier ? "y,z" : "y");
		INTS("nodes_treeids", 0, 0, 0, 0, 0, 1, 1, 1);
		INTS("nodes_nodeids", 0, 1, 2, 3, 4, 0, 1, 2);
		INTS("nodes_featureids", 0, 1, 0, 0, 0, 2, 0, 0);
		INTS("nodes_truenodeids", 1, 3, 0, 0, 0, 1, 0, 0);
		INTS("nodes_falsenodeids", 2, 4, 0, 0, 0, 2, 0, 0);
		attr_words(&n, "nodes_modes", "BRANCH_LEQ,BRANCH_GT,LEAF,LEAF,LEAF,BRANCH_LT,LEAF,LEAF");
		FLOATS("nodes_values", 0.5f, -0.25f, 0, 0, 0, 0.125f, 0, 0);
		INTS("nodes_missing_value_tracks_true", 1, 0, 0, 0, 0, 1, 0, 0);
		INTS(classifier ? "class_treeids" : "target_treeids", 0, 0, 0, 1, 1);
		INTS(classifier ? "class_nodeids" : "target_nodeids", 2, 3, 4, 1, 2);
		INTS(classifier ? "class_ids" : "target_ids", 0, 1, 2, 0, 1);
		FLOATS(classifier ? "class_weights" : "target_weights", 0.5f, 0.25f, -1, 1, 2);
		FLOATS("base_values", 0.1f, 0.2f, 0.3f);
		attr_word(&n, "post_transform", "SOFTMAX");
		if (classifier)
			INTS("classlabels_int64s", 4, 5, 6);
		else
			attr_int(&n, "n_targets", 3);
		add_ml(&n, classifier ? "yz" : "y");
	}
	n = make_node("SVMClassifier", "svm", "x", "y,z");
	INTS("vectors_per_class", 2, 1, 1);
	FLOATS("coefficients", 1, -1, 0.5f, 0.25f, 1, -2, 3, -4);
	FLOATS("support_vectors", 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3);
	FLOATS("rho", 0.1f, 0.2f, 0.3f);
	FLOATS("prob_a", 1, 2, 3);
	FLOATS("prob_b", 0, 1, -1);
	FLOATS("kernel_params", 0.5f, 0, 3);
	attr_word(&n, "kernel_type", "RBF");
	attr_words(&n, "classlabels_strings", "a,b,c");
	add_ml(&n, "yz");
	n = make_node("SVMRegressor", "svr", "x", "y");
	attr_int(&n, "n_supports", 2);
	FLOATS("coefficients", 1, -1);
	FLOATS("support_vectors", 1, 2, 3, 4, 5, 6);
	FLOATS("rho", 0.1f);
	FLOATS("kernel_params", 0.5f, 0, 3);
	attr_word(&n, "kernel_type", "POLY");
	add_ml(&n, "y");
	n = make_node("LinearClassifier", "linear", "x", "y,z");
	FLOATS("coefficients", 1, 2, 3, 4, 5, 6);
	FLOATS("intercepts", 1, 2);
	INTS("classlabels_ints", 1, 2);
	attr_word(&n, "post_transform", "LOGISTIC");
	add_ml(&n, "yz");
	n = make_node("Scaler", "scaler", "x", "y");
	FLOATS("offset", 1, 2, 3);
	FLOATS("scale", 0.5f);
	add_ml(&n, "y");
	n = make_node("OneHotEncoder", "one hot", "x", "y");
	INTS("cats_int64s", 0, 1, 2);
	add_ml(&n, "y");
	n = make_node("LabelEncoder", "label", "x", "y");
	FLOATS("keys_floats", 0, 1, 2);
	INTS("values_int64s", 3, 4, 5);
	add_ml(&n, "y");
	n = make_node("Imputer", "imputer", "x", "y");
	FLOATS("imputed_value_floats", 1, 2, 3);
	add_ml(&n, "y");
	n = make_node("FeatureVectorizer", "features", "x,x", "y");
	INTS("inputdimensions", 2, 3);
	add_ml(&n, "y");
}

/* ---- all ---- */

typedef struct shared
{
	uint32_t	at;				/* the mutation at work */
	uint32_t	compiled,
				bad;
} shared;

static void
run_batch(uint32_t first, uint32_t count, shared *s)
{
	int			status;
	pid_t		child;

	fflush(stdout);
	child = fork();

	if (child == 0)
	{
		for (s->at = first; s->at < first + count; s->at++)
		{
			pbw			w = mutation(s->at);
			bool		compiled = false;
			const char *fault;

			alarm(30);
			fault = survive(s->at, &w, &compiled);
			if (fault)
				printf("# mutation %u: %s\n", s->at, fault);
			s->bad += fault != NULL;
			s->compiled += compiled;
			free(w.p);
		}
		fflush(stdout);
		_exit(0);
	}
	waitpid(child, &status, 0);
	if (status != 0)
	{
		s->bad++;
		printf("# mutation %u: %s (status %d)\n", s->at, WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "hangs" : "crashes",
			   status);
		if (s->at + 1 < first + count)
			run_batch(s->at + 1, first + count - s->at - 1, s);
	}
}

int
main(int argc, char **argv)
{
	static char *names[MAX_CASES];
	const char *full = getenv("MILLRACE_FULL");
	uint32_t	count = argc > 1 ? (uint32_t) atoi(argv[1]) : full && full[0] == '1' ? 20000 : 1500,
				first = argc > 2 ? (uint32_t) atoi(argv[2]) : 0;
	pbw			net = make_network();
	shared	   *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int			n;

	if (s == MAP_FAILED)
		return 2;
	for (int i = nn_isa_portable; i <= (int) nn_isa_last && n_isas < 16; i++)
		if (nn_isa_available((nn_isa) i))
			isas[n_isas++] = (nn_isa) i;
	add_ml_models();
	corpus[n_corpus].p = net.p;
	corpus[n_corpus++].len = net.len;
	for (n_groups = 0; n_groups < n_corpus; n_groups++)
		groups[n_groups] = n_groups;
	n = cases_enter(NULL, names);
	for (int i = 0; i < n; i++)
	{
		char		path[300];

		snprintf(path, sizeof(path), "%s/model.onnx", names[i]);
		/* "test_<operator>_..." */
		if (i == 0 || strncmp(names[i], names[i - 1], 6 + strcspn(names[i] + 5, "_")) != 0)
			groups[n_groups++] = n_corpus;
		corpus[n_corpus].p = read_file(path, &corpus[n_corpus].len);
		n_corpus += corpus[n_corpus].p != NULL;
	}
	for (int i = 0; i < n_corpus; i++)
	{
		pbw			same = {corpus[i].p, corpus[i].len, 0};
		bool		compiled = false;
		const char *fault = i < 11 ? survive(1, &same, &compiled) : NULL;

		if (i < 11 && (fault || !compiled))
			printf("# model %d of ours is refused%s%s\n", i, fault ? ": " : "", fault ? fault : "");
		s->bad += i < 11 && (fault || !compiled);
	}
	ok(s->bad == 0, "the models themselves are good");
	s->bad = 0;
	for (uint32_t i = 0; i < count; i += BATCH)
		run_batch(first + i, count - i < BATCH ? count - i : BATCH, s);
	cases_leave(names, n > 0 ? n : 0);
	for (int i = 0; i < n_corpus; i++)
		free(corpus[i].p);
	ok(s->bad == 0, "%u damaged files of %d models: %u still compile, none crashes, hangs or leaks", count, n_corpus, s->compiled);
	if (n < 0)
		skip("no ../shared/data/onnx_conformance");
	return done_testing();
}
