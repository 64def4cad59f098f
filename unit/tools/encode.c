/*
 * encode.c
 *	  An encoder's folder, run on texts: for tests and benchmarks that compare with
 *	  other libraries.
 *
 *	  encode FOLDER [options] < texts
 *
 *	  --ids				stdin has lines of token numbers, not texts ended by zero bytes
 *	  --layer N			vectors of the tokens behind layer N (0: embeddings, -1: the last);
 *						without it a pooled vector for each text
 *	  --isa NAME		portable, avx2, avx512 …; --precision float32, bfloat16, int8
 *	  --batch N			sequences a call (32); --max N: tokens of a text (the model's)
 *	  --time FILE		texts (or ids) are FILE's; each line on stdin is answered by a line of
 *						CPU seconds: "all" what all of them took, in batches, sorted by
 *						length; "alone" median and 95th percentile, each text by itself
 *
 * Answers a line of JSON, {"hidden": H, "lengths": [tokens of each text]}, then
 * float32 rows.  Exit 3: refused, the message on stderr.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "text/encoder.h"
#include "tools/slurp.h"

typedef struct sequences
{
	int			n;
	int32_t    *ids;
	int32_t    *start;			/* n + 1, and the end of the one being made */
} sequences;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static void
die(const mr_status *st)
{
	fprintf(stderr, "%s%s%s\n", st->message, st->detail[0] ? ": " : "", st->detail);
	exit(3);
}

/* ---- the folder ---- */

static int
add_files(txt_file *file, int n, const char *folder, const char *below)
{
	char		path[4096];
	DIR		   *d = opendir(folder);
	struct dirent *e;

	if (d == NULL)
	{
		perror(folder);
		exit(3);
	}
	while ((e = readdir(d)) != NULL && n < TXT_MAX_FILES)
	{
		struct stat st;
		char		name[1024];
		size_t		len;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
		snprintf(name, sizeof(name), "%s%s", below, e->d_name);
		if (stat(path, &st) != 0)
			continue;
		if (S_ISDIR(st.st_mode))
		{
			strcat(name, "/");
			if (below[0] == '\0')
				n = add_files(file, n, path, name);
			continue;
		}
		file[n].data = slurp(path, &len);
		file[n].len = len;
		file[n++].name = strdup(name);
	}
	closedir(d);
	return n;
}

static void
load(const char *folder, const txt_encoder_options *options, txt_encoder *e, mr_status *st)
{
	txt_file	file[TXT_MAX_FILES];
	int			n = add_files(file, 0, folder, "");
	void	   *bundle,
			   *bytes;
	size_t		len;

	if (txt_bundle_write(&mr_env_malloc, file, n, &bundle, &len, st) != MR_OK ||
		txt_encoder_compile(&mr_env_malloc, bundle, len, options, &bytes, &len, st) != MR_OK ||
		txt_encoder_open(bytes, len, e, st) != MR_OK)
		die(st);
	mr_free(&mr_env_malloc, bundle);
	for (int i = 0; i < n; i++)
		free((void *) file[i].data);
}

/* ---- texts ---- */

static char *
read_all(FILE *f, size_t *used)
{
	size_t		size = 1 << 16,
				n;
	char	   *data = malloc(size);

	*used = 0;
	while ((n = fread(data + *used, 1, size - *used - 1, f)) > 0)
	{
		*used += n;
		if (size - *used < 2)
			data = realloc(data, size *= 2);
	}
	data[*used] = '\0';
	return data;
}

static void
append(sequences *s, int32_t id)
{
	int32_t		at = s->start[s->n + 1];

	if ((at & (at - 1)) == 0)
		s->ids = realloc(s->ids, sizeof(int32_t) * (size_t) (at ? 2 * at : 1));
	s->ids[at] = id;
	s->start[s->n + 1]++;
}

static void
end_sequence(sequences *s)
{
	s->n++;
	s->start = realloc(s->start, sizeof(int32_t) * (size_t) (s->n + 2));
	s->start[s->n + 1] = s->start[s->n];
}

static sequences
read_sequences(FILE *f, const txt_encoder *e, bool ids, int most, mr_status *st)
{
	sequences	s = {0, NULL, calloc(2, sizeof(int32_t))};
	size_t		used;
	char	   *data = read_all(f, &used);
	txt_work   *w = txt_work_create(&mr_env_malloc, st);
	txt_limits	limits = {true, most};
	txt_tokens	tokens;

	for (char *at = data; at < data + used;)
	{
		if (ids)
		{
			char	   *end = strchr(at, '\n'),
					   *next;

			for (; *at != '\n' && *at != '\0'; at = next)
			{
				long		id = strtol(at, &next, 10);

				if (next == at)
					break;
				append(&s, (int32_t) id);
			}
			at = end ? end + 1 : data + used;
		}
		else
		{
			size_t		len = strlen(at);

			if (txt_encode(&e->tokenizer, w, at, len, &limits, &tokens, st) != MR_OK)
				die(st);
			for (int i = 0; i < tokens.n; i++)
				append(&s, tokens.token[i].id);
			at += len + 1;
		}
		end_sequence(&s);
	}
	txt_work_free(w);
	free(data);
	return s;
}

/* ---- running ---- */

/* All sequences, so many a call; pooled: to embeddings, else to the rows of their tokens. */
static void
run(const txt_encoder *e, const sequences *s, int batch, bool pooled, int layer, float *hidden, float *out, mr_status *st)
{
	size_t		width = (size_t) e->info.hidden;
	int32_t    *start = malloc(sizeof(int32_t) * (size_t) (batch + 1));
	void	   *workspace = NULL;
	size_t		size = 0;

	for (int from = 0; from < s->n; from += batch)
	{
		txt_batch	b = {s->n - from < batch ? s->n - from : batch, s->ids + s->start[from], start};
		float	   *to = pooled ? hidden : out + (size_t) s->start[from] * width;
		size_t		need;

		for (int i = 0; i <= b.n; i++)
			start[i] = s->start[from + i] - s->start[from];
		need = txt_encoder_workspace(e, start[b.n]);
		if (need > size)
		{
			mr_free(&mr_env_malloc, workspace);
			workspace = mr_alloc(&mr_env_malloc, size = need);
		}
		if (txt_encoder_run(e, &mr_env_malloc, workspace, &b, layer, to, st) != MR_OK)
			die(st);
		if (pooled)
			txt_encoder_pool(e, &b, hidden, out + (size_t) from * width);
	}
	mr_free(&mr_env_malloc, workspace);
	free(start);
}

static const sequences *sorting;

static int
by_length(const void *a, const void *b)
{
	const int32_t *s = sorting->start;
	int			x = *(const int *) a,
				y = *(const int *) b;
	int			d = (s[x + 1] - s[x]) - (s[y + 1] - s[y]);

	return d ? d : x - y;
}

static sequences
sorted(const sequences *s)
{
	sequences	out = {0, NULL, calloc(2, sizeof(int32_t))};
	int		   *order = malloc(sizeof(int) * (size_t) (s->n + 1));

	for (int i = 0; i < s->n; i++)
		order[i] = i;
	sorting = s;
	qsort(order, (size_t) s->n, sizeof(int), by_length);
	for (int i = 0; i < s->n; i++)
	{
		for (int32_t t = s->start[order[i]]; t < s->start[order[i] + 1]; t++)
			append(&out, s->ids[t]);
		end_sequence(&out);
	}
	free(order);
	return out;
}

static int
by_value(const void *a, const void *b)
{
	double		x = *(const double *) a,
				y = *(const double *) b;

	return (x > y) - (x < y);
}

static void
answer_times(const txt_encoder *e, const sequences *s, int batch, int layer, float *hidden, float *out, mr_status *st)
{
	sequences	all = sorted(s);
	double	   *took = malloc(sizeof(double) * (size_t) (s->n + 1));
	char		line[256];

	while (fgets(line, sizeof(line), stdin))
	{
		double		begin = now();

		if (strncmp(line, "alone", 5) != 0)
		{
			run(e, &all, batch, true, layer, hidden, out, st);
			printf("%.6f\n", now() - begin);
		}
		else
		{
			for (int i = 0; i < s->n; i++)
			{
				sequences	one = {1, s->ids + s->start[i], (int32_t[2]) {0, s->start[i + 1] - s->start[i]}};

				begin = now();
				run(e, &one, 1, true, layer, hidden, out, st);
				took[i] = now() - begin;
			}
			qsort(took, (size_t) s->n, sizeof(double), by_value);
			printf("%.6f %.6f\n", took[s->n / 2], took[s->n * 95 / 100]);
		}
		fflush(stdout);
	}
	free(took);
}

static nn_isa
isa_named(const char *name)
{
	for (int i = nn_isa_auto; i <= nn_isa_last; i++)
		if (strcmp(nn_isa_name(i), name) == 0)
			return i;
	fprintf(stderr, "no instruction set %s\n", name);
	exit(2);
}

int
main(int argc, char **argv)
{
	mr_status	st = {0};
	txt_encoder_options options = {nn_isa_auto, nn_float32};
	txt_encoder e;
	sequences	s;
	FILE	   *from = stdin;
	bool		ids = false,
				pooled = true;
	int			layer = -1,
				batch = 32,
				most = 0;
	size_t		rows;
	float	   *hidden,
			   *out;

	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], "--ids") == 0)
			ids = true;
		else if (i + 1 == argc)
			return 2;
		else if (strcmp(argv[i], "--layer") == 0)
		{
			layer = atoi(argv[++i]);
			pooled = false;
		}
		else if (strcmp(argv[i], "--isa") == 0)
			options.isa = isa_named(argv[++i]);
		else if (strcmp(argv[i], "--precision") == 0)
		{
			i++;
			options.precision = strcmp(argv[i], "bfloat16") == 0 ? nn_bfloat16 : strcmp(argv[i], "int8") == 0 ? nn_int8 : nn_float32;
		}
		else if (strcmp(argv[i], "--batch") == 0)
			batch = atoi(argv[++i]);
		else if (strcmp(argv[i], "--max") == 0)
			most = atoi(argv[++i]);
		else if (strcmp(argv[i], "--time") == 0)
			from = fopen(argv[++i], "rb");
		else
			return 2;
	if (argc < 2 || batch < 1 || from == NULL)
		return 2;
	load(argv[1], &options, &e, &st);
	s = read_sequences(from, &e, ids, most > 0 && most < e.info.max_tokens ? most : e.info.max_tokens, &st);
	rows = (size_t) s.start[s.n] * (size_t) e.info.hidden;
	hidden = mr_alloc(&mr_env_malloc, sizeof(float) * (size_t) batch * (size_t) e.info.max_tokens * (size_t) e.info.hidden);
	out = mr_alloc(&mr_env_malloc, sizeof(float) * (pooled ? (size_t) s.n * (size_t) e.info.hidden : rows) + 1);
	if (from != stdin)
	{
		answer_times(&e, &s, batch, layer, hidden, out, &st);
		return 0;
	}
	run(&e, &s, batch, pooled, layer, hidden, out, &st);
	printf("{\"hidden\": %d, \"lengths\": [", e.info.hidden);
	for (int i = 0; i < s.n; i++)
		printf("%s%d", i ? ", " : "", s.start[i + 1] - s.start[i]);
	printf("]}\n");
	fwrite(out, sizeof(float), pooled ? (size_t) s.n * (size_t) e.info.hidden : rows, stdout);
	return 0;
}
