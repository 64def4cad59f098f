/*
 * test_text_tokenizer.c
 *	  Tokenizers on bad input: damaged files, damaged compiled bytes, hostile
 *	  texts, cancels.  That the numbers are right: t/test_text_tokenizers.py.
 */
#include <time.h>

#include "text/text.h"
#include "unit.h"

static const char wordpiece[] = "{\"added_tokens\":[{\"id\":2,\"content\":\"[CLS]\",\"normalized\":false},{\"id\":4,\"content\":\"[MASK]\",\"lstrip\":true,\"normalized\":false}],"
	"\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
	"\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]},"
	"\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,"
	"\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,\"[MASK]\":4,\"un\":5,\"##aff\":6,\"##able\":7,\"\\u4f60\":8,\".\":9,\"a\":10,\"##a\":11}}}";

static const char bpe[] = "{\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
	"\"post_processor\":{\"type\":\"RobertaProcessing\",\"sep\":[\"</s>\",1],\"cls\":[\"<s>\",0],\"trim_offsets\":true,\"add_prefix_space\":false},"
	"\"model\":{\"type\":\"BPE\",\"unk_token\":null,\"vocab\":{\"<s>\":0,\"</s>\":1,\"a\":2,\"b\":3,\"\\u0120\":4,\"aa\":5,\"aaaa\":6,\"ab\":7,\"\\u0120a\":8},"
	"\"merges\":[\"a a\",[\"aa\",\"aa\"],\"a b\",\"\\u0120 a\"]}}";

static const char unigram[] = "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"}]},"
	"\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"always\",\"split\":true},"
	"\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"
	"\"pair\":[],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],\"tokens\":[\"<s>\"]}}},"
	"\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"<s>\",0],[\"\\u2581\",-2.5],[\"a\",-3],[\"b\",-3.5],[\"ab\",-5],[\"\\u2581ab\",-6e0]],\"byte_fallback\":false}}";

static const char *const files[] = {wordpiece, bpe, unigram};
static const char *const names[] = {"WordPiece", "BPE", "Unigram"};

static uint64_t seed = 1;

static uint32_t
next_random(void)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t) (seed >> 33);
}

static bool
compile(const char *json, size_t len, void **bytes, size_t *size, mr_status *st)
{
	return txt_compile_json(&mr_env_malloc, json, len, bytes, size, st) == MR_OK;
}

/* A tokenizer and its bytes; NULL with the reason in st. */
static void *
make(const char *json, txt_tokenizer *t, mr_status *st)
{
	void	   *bytes;
	size_t		size;

	if (!compile(json, strlen(json), &bytes, &size, st))
		return NULL;
	return txt_open(bytes, size, t, st) == MR_OK ? bytes : NULL;
}

/* Tokens of a text, as "2 5 3". */
static const char *
tokens_of(const char *json, const char *text, int most, bool *truncated)
{
	static char out[4096];
	mr_status	st = {0};
	txt_tokenizer t;
	txt_tokens	tokens;
	txt_work   *w = txt_work_create(&mr_env_malloc, &st);
	void	   *bytes = make(json, &t, &st);

	out[0] = '\0';
	if (bytes != NULL && txt_encode(&t, w, text, strlen(text), &(txt_limits) {true, most}, &tokens, &st) == MR_OK)
	{
		for (int i = 0; i < tokens.n; i++)
			sprintf(out + strlen(out), "%s%d", i ? " " : "", tokens.token[i].id);
		if (truncated)
			*truncated = tokens.truncated;
		mr_free(&mr_env_malloc, bytes);
	}
	else
		snprintf(out, sizeof(out), "%s", st.message);
	txt_work_free(w);
	return out;
}

static void
same(const char *got, const char *expected, const char *name)
{
	if (!ok(strcmp(got, expected) == 0, "%s", name))
		printf("# got %s, expected %s\n", got, expected);
}

static void
by_hand(void)
{
	bool		cut = false;

	same(tokens_of(wordpiece, "Un\xc3\xa4" "ffable. unaffablex", 0, NULL), "2 5 6 7 9 1 3", "WordPiece: accents go, a word with a gap is unknown");
	same(tokens_of(wordpiece, "a  [MASK]a\xe4\xbd\xa0" "a", 0, NULL), "2 10 4 10 8 10 3", "an added token within a text; CJK stands alone");
	same(tokens_of(wordpiece, "a a a a", 4, &cut), "2 10 10 3", "cut to four tokens");
	ok(cut, "and that is told");
	same(tokens_of(wordpiece, "a a", 4, &cut), "2 10 10 3", "four tokens fit");
	ok(!cut, "and nothing is said to be cut");
	same(tokens_of(wordpiece, "", 0, NULL), "2 3", "an empty text");
	same(tokens_of(bpe, "aaaaab aab", 0, NULL), "0 6 7 4 5 3 1", "BPE: the pair of least rank first, from the left");
	same(tokens_of(unigram, "ab  ab", 0, NULL), "1 6 6", "Unigram: the likeliest pieces");
	same(tokens_of(unigram, "\xef\xbd\x81" "xyb", 0, NULL), "1 2 3 0 4", "compatibility forms are composed, neighbours that are unknown are one");
}

static void
refusals(void)
{
	static const struct
	{
		const char *json,
				   *message;
	}			bad[] = {
		{"", "invalid JSON: it ends after 0 bytes, expected an object"},
		{"{}", "the file has no model: it is no tokenizer.json"},
		{"{\"model\":{\"type\":\"WordLevel\"}}", "tokenizer's model \"WordLevel\" is not supported"},
		{"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x\"}}}", "tokenizer's pre-tokenizer \"Split\" is not supported"},
		{"{\"model\":{\"type\":\"WordPiece\",\"continuing_subword_prefix\":\"##\",\"vocab\":{\"a\":0}}}", "the vocabulary has no token for what is unknown"},
		{"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", "tokenizer's model \"BPE that is not byte-level\" is not supported"},
		{"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}",
		"merge 1 is of tokens that are not in the vocabulary"},
		{"{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\"]]}}", "a piece and its score"},
		{"{\"model\":{\"type\":\"WordPiece\",\"continuing_subword_prefix\":\"##\",\"vocab\":{\"a\":1e9}}}", "the number of a token"},
		{"{\"model\":{}} x", "is not supported"},
		{"{\"model\":{\"type\":\"\xc3\x28\"}}", "the tokenizer's file is not UTF-8 at byte 18"},
		{"{\"added_tokens\":[{\"id\":0,\"content\":\"b\"},{\"id\":0,\"content\":\"c\"}],"
			"\"model\":{\"type\":\"WordPiece\",\"continuing_subword_prefix\":\"##\",\"unk_token\":\"a\",\"vocab\":{\"a\":0}}}",
		"the tokenizer has more added tokens than tokens"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		mr_status	st = {0};
		void	   *bytes;
		size_t		size;
		bool		good = compile(bad[i].json, strlen(bad[i].json), &bytes, &size, &st);

		if (!ok(!good && strstr(st.message, bad[i].message), "refused: %s", bad[i].message))
			printf("# got %s\n", st.message);
	}
	{
		char		json[4096];
		mr_status	st = {0};
		txt_tokenizer t;

		for (int len = 1024; len <= 1025; len++)
		{
			snprintf(json, sizeof(json), "{\"model\":{\"type\":\"WordPiece\",\"continuing_subword_prefix\":\"##\",\"unk_token\":\"a\","
					 "\"vocab\":{\"a\":0,\"%0*d\":1}}}", len, 0);
			mr_free(&mr_env_malloc, make(json, &t, &st));
			same(st.message, len == 1024 ? "" : "token 1 has more than 1024 bytes", "a token of 1024 bytes, or one more");
		}
	}
}

/* Each file cut at each byte, and with each byte changed; compiled bytes changed at random. */
static void
damage(int k)
{
	size_t		len = strlen(files[k]),
				size;
	char	   *copy = malloc(len);
	mr_status	st = {0};
	void	   *bytes;
	int			compiled = 0,
				opened = 0,
				strange = 0;
	const char	text[] = "unaffable aab [MASK] \xc3\xa4\xe4\xbd\xa0 a\xcc\x81\xff.";
	txt_work   *w = txt_work_create(&mr_env_malloc, &st);
	txt_tokenizer t;
	txt_tokens	tokens;
	bool		all_refused = true;

	for (size_t cut = 0; cut < len; cut++)
	{
		memcpy(copy, files[k], cut);
		if (compile(copy, cut, &bytes, &size, &st))
		{
			all_refused = false;
			mr_free(&mr_env_malloc, bytes);
		}
	}
	ok(all_refused, "%s: refused wherever it is cut", names[k]);
	for (size_t i = 0; i < len * 8; i++)
	{
		memcpy(copy, files[k], len);
		copy[i / 8] = (char) (i % 2 ? next_random() : (unsigned char) copy[i / 8] ^ 1u << i % 8);
		if (!compile(copy, len, &bytes, &size, &st))
			continue;
		compiled++;
		if (txt_open(bytes, size, &t, &st) == MR_OK)
			txt_encode(&t, w, text, sizeof(text) - 1, &(txt_limits) {true, 0}, &tokens, &st);
		mr_free(&mr_env_malloc, bytes);
	}
	ok(compiled > 0, "%s: %d of %zu changed files are tokenizers too, and run", names[k], compiled, len * 8);
	if (compile(files[k], len, &bytes, &size, &st))
	{
		char	   *changed = aligned_alloc(64, (size + 63) / 64 * 64);

		for (int i = 0; i < 20000; i++)
		{
			memcpy(changed, bytes, size);
			for (int n = 1 + (int) (next_random() % 3); n > 0; n--)
				changed[i % 2 ? next_random() % 2048 % size : next_random() % size] ^= (char) (1u << next_random() % 8);
			if (txt_open(changed, i % 16 ? size : next_random() % size, &t, &st) != MR_OK)
				continue;
			opened++;
			if (txt_encode(&t, w, text, sizeof(text) - 1, &(txt_limits) {i % 3 != 0, 0}, &tokens, &st) == MR_OK)
				for (int k = 0; k < tokens.n; k++)
					strange += tokens.token[k].id < -1 || tokens.token[k].id >= txt_vocabulary(&t);
		}
		ok(opened > 0, "%s: %d of 20000 changed compiled files open, and stay within their bytes", names[k], opened);
		ok(strange == 0, "%s: and give tokens of the vocabulary", names[k]);
		free(changed);
		mr_free(&mr_env_malloc, bytes);
	}
	txt_work_free(w);
	free(copy);
}

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static char *
repeat(const char *piece, size_t len)
{
	char	   *text = malloc(len);

	for (size_t i = 0; i < len; i++)
		text[i] = piece[i % strlen(piece)];
	return text;
}

/* Of CPU: how long a text took, and of that the longest stretch in which nobody looked for interrupts. */
typedef struct watch
{
	double		begin,
				looked,
				longest;
} watch;

static bool
look(void *arg)
{
	watch	   *w = arg;
	double		now = seconds();

	if (now - w->looked > w->longest)
		w->longest = now - w->looked;
	w->looked = now;
	return false;
}

static watch
time_of(int k, const char *piece, size_t len)
{
	watch		times = {0};
	mr_env		env = mr_env_malloc;
	mr_status	st = {0};
	txt_tokenizer t;
	txt_tokens	tokens;
	void	   *bytes = make(files[k], &t, &st);
	char	   *text = repeat(piece, len);
	txt_work   *w;

	env.interrupted = look;
	env.arg = &times;
	w = txt_work_create(&env, &st);
	times.begin = times.looked = seconds();
	if (txt_encode(&t, w, text, len, &(txt_limits) {true, 0}, &tokens, &st) != MR_OK)
		printf("# %s\n", st.message);
	look(&times);
	txt_work_free(w);
	mr_free(&mr_env_malloc, bytes);
	free(text);
	return times;
}

/* Ten times the text is about ten times the time: n log n at most, not n squared; and a cancel is heard all along. */
static void
long_texts(void)
{
	static const char *const pieces[] = {"a", "ab", " ", "a ", "a\xcc\x81\xcc\xa3", "\xcc\x81\xcc\xa3", "[MASK", "[MASK]", "un", "\xff", "\xe1\x85\xa1"};

	for (int k = 0; k < 3; k++)
		for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
		{
			const char *name = (unsigned char) pieces[i][0] < 0x80 ? pieces[i] : "marks or wrong bytes";
			watch		small = time_of(k, pieces[i], 100000),
						large = time_of(k, pieces[i], 1000000);
			double		took = large.looked - large.begin;

			ok(took < 25 * (small.looked - small.begin) + 0.1, "%s: 1 MB of \"%s\" takes %.2f s, a tenth of it %.3f", names[k],
			   name, took, small.looked - small.begin);
			ok(large.longest < took / 5 + 0.05, "%s: %.0f ms of it at most between two looks for interrupts", names[k], large.longest * 1e3);
		}
}

static int	asked;

static bool
stop_soon(void *arg)
{
	return ++asked > 2;
}

static void
cancel(void)
{
	mr_env		env = mr_env_malloc;
	mr_status	st = {0};
	txt_tokenizer t;
	txt_tokens	tokens;
	size_t		len = 4 << 20;
	char	   *text = repeat("aaaaaa ", len);

	env.interrupted = stop_soon;
	for (int k = 0; k < 3; k++)
	{
		void	   *bytes = make(files[k], &t, &st);
		txt_work   *w = txt_work_create(&env, &st);

		asked = 0;
		ok(txt_encode(&t, w, text, len, &(txt_limits) {true, 0}, &tokens, &st) == MR_CANCELED, "%s: a cancel is heard", names[k]);
		txt_work_free(w);
		mr_free(&mr_env_malloc, bytes);
	}
	free(text);
}

/* txt_encode_cut() reads less than txt_encode(), and gives the same. */
static void
long_texts_cut(void)
{
	static const char *const parts[] = {"a", "aab", "unaffable", "[MASK]", " ", "  ", " ", "\n", "\t ", "\xe4\xbd\xa0", "e\xcc\x81", " \xcc\x81", "<s>", ".", "\xff", "\xe2\x80\x8b"};
	static char text[4096];

	for (int k = 0; k < 3; k++)
	{
		mr_status	st = {0};
		txt_tokenizer t;
		void	   *bytes = make(files[k], &t, &st);
		txt_work   *v = txt_work_create(&mr_env_malloc, &st),
				   *w = txt_work_create(&mr_env_malloc, &st);
		int			wrong = 0;

		for (int i = 0; i < 3000; i++)
		{
			txt_limits	limits = {true, 3 + (int) (next_random() % 30)};
			size_t		len = 0,
						most = next_random() % sizeof(text);
			uint32_t	used = next_random() | 1;	/* so that some texts have few tokens */
			txt_tokens	x,
						y;

			for (;;)
			{
				size_t		which = next_random() % (sizeof(parts) / sizeof(parts[0]));
				const char *part = parts[which];

				if (!(used >> which & 1))
					continue;
				if (len + strlen(part) > most)
					break;
				memcpy(text + len, part, strlen(part));
				len += strlen(part);
			}
			if (txt_encode(&t, v, text, len, &limits, &x, &st) != MR_OK || txt_encode_cut(&t, w, text, len, &limits, &y, &st) != MR_OK ||
				x.n != y.n || x.truncated != y.truncated || memcmp(x.token, y.token, (size_t) x.n * sizeof(txt_token)) != 0)
				wrong++;
		}
		ok(wrong == 0, "%s: the first tokens of 3,000 texts, from their beginnings", names[k]);
		txt_work_free(v);
		txt_work_free(w);
		mr_free(&mr_env_malloc, bytes);
	}
}

/* A vocabulary of 200,000 tokens. */
static void
cancel_compiling(void)
{
	mr_env		env = mr_env_malloc;
	mr_status	st = {0};
	size_t		len = 0;
	char	   *vocab = malloc(200000 * 8 + 64);
	const txt_vocab_options options = {true, true, true};
	void	   *bytes;

	env.interrupted = stop_soon;
	asked = 0;
	len += (size_t) sprintf(vocab, "[UNK]\n[CLS]\n[SEP]\n");
	for (int i = 0; i < 200000; i++)
		len += (size_t) sprintf(vocab + len, "%06d\n", i);
	ok(txt_compile_vocab(&env, vocab, len, &options, &bytes, &len, &st) == MR_CANCELED, "compiling hears a cancel");
	free(vocab);
}

int
main(void)
{
	by_hand();
	refusals();
	for (int k = 0; k < 3; k++)
		damage(k);
	long_texts();
	long_texts_cut();
	cancel();
	cancel_compiling();
	return done_testing();
}
