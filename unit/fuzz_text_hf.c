/*
 * fuzz_text_hf.c
 *	  libFuzzer: any bytes as the files of a model's folder.
 *
 * make fuzz (clang with libFuzzer), then
 *	  unit/bin/fuzz_text_hf -max_len=8192 -timeout=5 -rss_limit_mb=1024
 *
 * Input that begins with a letter of FILES replaces that file of a good folder by
 * what follows (of model.safetensors: the header); any other is a bundle.  It needs
 * no corpus: the mutator begins with good files.
 */
#include <stdint.h>

#include "text/hf.h"
#include "text_make.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
extern size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t most, unsigned int seed);
extern size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t most);

/* By the order in which made_bert() has them. */
static const char FILES[] = "cwvtmps";

/* An empty input becomes a good file, so that a run needs no corpus. */
size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t most, unsigned int seed)
{
	made_folder f;
	size_t		n;

	if (len > 1 && seed % 64 != 0)
		return LLVMFuzzerMutate(data, len, most);
	f = made_bert();
	data[0] = (uint8_t) FILES[seed / 64 % (sizeof(FILES) - 1)];
	n = strlen(f.file[strchr(FILES, data[0]) - FILES].text);
	if (n + 1 > most)
		n = most - 1;
	memcpy(data + 1, f.file[strchr(FILES, data[0]) - FILES].text, n);
	made_free(&f);
	return n + 1;
}

static void
check(const void *bundle, size_t len)
{
	txt_bundle *b = malloc(sizeof(txt_bundle));
	txt_hf	   *hf = malloc(sizeof(txt_hf));
	mr_status	st = {0};
	txt_tokenizer t;
	void	   *tokenizer = NULL;
	size_t		size;
	float		number;

	if (txt_bundle_open(bundle, len, b, &st) == MR_OK && txt_hf_read(&mr_env_malloc, b, hf, &st) == MR_OK)
	{
		const txt_linear *last = &hf->layer[hf->info.layers - 1].down;

		/* what is accepted can be read to its end */
		if (!hf->graph)
		{
			txt_tensor_floats(&last->weight, (int64_t) hf->info.hidden * hf->info.intermediate - 1, 1, &number);
			txt_tensor_floats(&hf->words, (int64_t) hf->info.vocabulary * hf->info.hidden - 1, 1, &number);
		}
		if (txt_hf_tokenizer(&mr_env_malloc, hf, &tokenizer, &size, &st) == MR_OK && txt_open(tokenizer, size, &t, &st) != MR_OK)
			__builtin_trap();
	}
	if (st.code != MR_OK && (st.message[0] == '\0' || strlen(st.message) >= sizeof(st.message)))
		__builtin_trap();
	mr_free(&mr_env_malloc, tokenizer);
	free(hf);
	free(b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *which = len > 0 && data[0] ? strchr(FILES, data[0]) : NULL;
	made_folder f;
	made_file  *file;
	void	   *bundle;
	size_t		size;

	if (which == NULL)
	{
		check(data, len);
		return 0;
	}
	f = made_bert();
	file = &f.file[which - FILES];
	free(file->text);
	file->text = malloc(len);
	memcpy(file->text, data + 1, len - 1);
	file->text[len - 1] = '\0';
	bundle = made_bundle(&f, &size);
	check(bundle, size);
	mr_free(&mr_env_malloc, bundle);
	made_free(&f);
	return 0;
}
