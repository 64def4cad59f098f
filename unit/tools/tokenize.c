/*
 * tokenize.c
 *	  Texts into tokens, for tests and benchmarks that compare with other libraries.
 *
 *	  tokenize tokenizer.json|vocab.txt [--plain] [--max n] [--bench rounds] < texts
 *
 * Texts are ended by zero bytes.  A line a text: id:start-end of each token, in
 * bytes; --plain: without the template's tokens.  --bench prints the least
 * microseconds of CPU a text instead.  Exit 3: the tokenizer is refused.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text/text.h"
#include "tools/slurp.h"

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec * 1e6 + (double) t.tv_nsec / 1e3;
}

static void
die(const mr_status *st)
{
	fprintf(stderr, "%s\n", st->message);
	exit(3);
}

int
main(int argc, char **argv)
{
	mr_status	st = {0};
	txt_vocab_options options = {true, true, true};
	txt_limits	limits = {true, 0};
	txt_tokenizer t;
	txt_tokens	tokens;
	txt_work   *w;
	size_t		len,
				size = 0,
				used = 0,
				n = 0;
	int			rounds = 0;
	char	   *file,
			   *texts = NULL;
	void	   *bytes;
	double		least = 1e30;

	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], "--plain") == 0)
			limits.special = false;
		else if (strcmp(argv[i], "--max") == 0 && i + 1 < argc)
			limits.max_tokens = atoi(argv[++i]);
		else if (strcmp(argv[i], "--bench") == 0 && i + 1 < argc)
			rounds = atoi(argv[++i]);
	if (argc < 2)
		return 2;
	file = (char *) slurp(argv[1], &len);
	if ((strstr(argv[1], ".txt") ? txt_compile_vocab(&mr_env_malloc, file, len, &options, &bytes, &len, &st) :
		 txt_compile_json(&mr_env_malloc, file, len, &bytes, &len, &st)) != MR_OK || txt_open(bytes, len, &t, &st) != MR_OK)
		die(&st);
	for (;;)
	{
		if (used == size)
			texts = realloc(texts, size = size ? size * 2 : 1 << 16);
		len = fread(texts + used, 1, size - used, stdin);
		if (len == 0)
			break;
		used += len;
	}
	w = txt_work_create(&mr_env_malloc, &st);
	for (int round = 0; round < (rounds ? rounds : 1); round++)
	{
		double		begin = now();

		n = 0;
		for (size_t at = 0; at < used; at += len + 1, n++)
		{
			char	   *end = memchr(texts + at, 0, used - at);

			len = end ? (size_t) (end - texts) - at : used - at;
			if (txt_encode(&t, w, texts + at, len, &limits, &tokens, &st) != MR_OK)
				die(&st);
			if (rounds)
				continue;
			for (int i = 0; i < tokens.n; i++)
				printf("%d:%u-%u ", tokens.token[i].id, tokens.token[i].start, tokens.token[i].end);
			putchar('\n');
		}
		if ((now() - begin) / (double) n < least)
			least = (now() - begin) / (double) n;
	}
	if (rounds)
		printf("%.3f\n", least);
	txt_work_free(w);
	return 0;
}
