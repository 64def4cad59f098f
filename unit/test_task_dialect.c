/*
 * test_task_dialect.c
 *	  Requests to language model servers and their answers, as Ollama, OpenAI, vLLM and llama.cpp send them.
 */
#include "unit.h"

#include <math.h>

#include "task/worker/dialect.h"

static mr_status st;

/* ---- requests ---- */

static bool
writes(tsk_api api, tsk_ask ask, const char *payload, const char *url, const char *body)
{
	tsk_dialect d = {.api = api,.ask = ask,.url = "http://host:1",.model = "m\"1"};
	tsk_dialect_request request;
	bool		good;

	if (tsk_dialect_write(&d, payload, strlen(payload), &mr_env_malloc, &request, &st) != MR_OK)
	{
		printf("# %s\n", st.message);
		return false;
	}
	good = strcmp(request.url, url) == 0 && strcmp(request.body, body) == 0 && request.len == strlen(body);
	if (!good)
		printf("# %s\n# %s\n# not %s\n", request.url, request.body, body);
	free(request.url);
	return good;
}

static void
requests(void)
{
	ok(writes(TSK_API_OLLAMA, TSK_ASK_TEXT, "{\"prompt\": \"Why \\u00fc?\"}", "http://host:1/api/generate",
			  "{\"model\":\"m\\\"1\",\"prompt\":\"Why \\u00fc?\",\"stream\":false}"), "Ollama, a prompt");
	ok(writes(TSK_API_OLLAMA, TSK_ASK_TEXT,
			  "{\"model\": \"other\", \"prompt\": \"a\", \"system\": \"b\", \"format\": \"json\", \"keep\": [1], \"options\": {\"temperature\": 0.5, \"max_tokens\": 9, "
			  "\"stop\": \"x\", \"seed\": 1, \"top_k\": null, \"keep_alive\": \"5m\", \"think\": false}}", "http://host:1/api/generate",
			  "{\"model\":\"other\",\"prompt\":\"a\",\"system\":\"b\",\"stream\":false,\"format\":\"json\",\"keep_alive\":\"5m\",\"think\":false,"
			  "\"options\":{\"temperature\":0.5,\"num_predict\":9,\"stop\":[\"x\"],\"seed\":1}}"), "with everything");
	ok(writes(TSK_API_OLLAMA, TSK_ASK_TEXT, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"system\": \"b\", \"format\": {\"type\": \"object\"}}",
			  "http://host:1/api/chat",
			  "{\"model\":\"m\\\"1\",\"messages\":[{\"role\":\"system\",\"content\":\"b\"},{\"role\": \"user\", \"content\": \"a\"}],\"stream\":false,\"format\":{\"type\": \"object\"}}"),
	   "messages, and a schema");
	ok(writes(TSK_API_OPENAI, TSK_ASK_TEXT, "{\"prompt\": \"a\", \"system\": \"b\", \"format\": \"json\", \"options\": {\"max_tokens\": 9, \"stop\": \"x\"}}",
			  "http://host:1/v1/chat/completions",
			  "{\"model\":\"m\\\"1\",\"messages\":[{\"role\":\"system\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"a\"}],\"stream\":false,"
			  "\"response_format\":{\"type\":\"json_object\"},\"max_tokens\":9,\"stop\":\"x\"}"), "OpenAI, a prompt");
	ok(writes(TSK_API_OPENAI, TSK_ASK_TEXT, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"format\": {\"a\": 1}}", "http://host:1/v1/chat/completions",
			  "{\"model\":\"m\\\"1\",\"messages\":[{\"role\": \"user\", \"content\": \"a\"}],\"stream\":false,"
			  "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"schema\":{\"a\": 1}}}}"), "messages, and a schema");
	ok(writes(TSK_API_OLLAMA, TSK_ASK_VECTORS, "{\"input\": [\"a\", \"b\"], \"options\": {\"dimensions\": 2}}", "http://host:1/api/embed",
			  "{\"model\":\"m\\\"1\",\"input\":[\"a\", \"b\"],\"dimensions\":2,\"options\":{}}"), "Ollama, vectors");
	ok(writes(TSK_API_OPENAI, TSK_ASK_VECTORS, "{\"input\": \"a\", \"options\": {\"dimensions\": 2}}", "http://host:1/v1/embeddings",
			  "{\"model\":\"m\\\"1\",\"input\":\"a\",\"dimensions\":2}"), "OpenAI, vectors");
}

static void
urls(void)
{
	static const struct
	{
		tsk_api		api;
		const char *url,
				   *whole;
	}			cases[] = {
		{TSK_API_OPENAI, "https://api.openai.com", "https://api.openai.com/v1/embeddings"},
		{TSK_API_OPENAI, "https://api.openai.com/", "https://api.openai.com/v1/embeddings"},
		{TSK_API_OPENAI, "https://api.openai.com/v1", "https://api.openai.com/v1/embeddings"},
		{TSK_API_OPENAI, "https://host:8/openai/v1/", "https://host:8/openai/v1/embeddings"},
		{TSK_API_OLLAMA, "http://host:11434", "http://host:11434/api/embed"},
		{TSK_API_OLLAMA, "http://host:11434/ollama/", "http://host:11434/ollama/api/embed"}
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		tsk_dialect d = {.api = cases[i].api,.ask = TSK_ASK_VECTORS,.url = cases[i].url,.model = "m"};
		tsk_dialect_request request;

		ok(tsk_dialect_write(&d, "{\"input\": \"a\"}", 14, &mr_env_malloc, &request, &st) == MR_OK && strcmp(request.url, cases[i].whole) == 0, "%s", cases[i].whole);
		free(request.url);
	}
}

static void
prompts(void)
{
	tsk_dialect d = {.api = TSK_API_OLLAMA,.ask = TSK_ASK_TEXT,.url = "http://h",.model = "m",.stream = true,
	.prompt = "Say \"{{text}}\"\nin {{ how }} and {{n}}: {{list}} {{text}}{{"};
	const char *payload = "{\"text\": \"a\\\"b\\u00e9\", \"how\": \"German\", \"n\": 3, \"list\": [\"x\"]}";
	tsk_dialect_request request;

	ok(tsk_dialect_write(&d, payload, strlen(payload), &mr_env_malloc, &request, &st) == MR_OK &&
	   strcmp(request.body, "{\"model\":\"m\",\"prompt\":\"Say \\\"a\\\"b\\u00e9\\\"\\u000ain German and 3: [\\\"x\\\"] a\\\"b\\u00e9{{\",\"stream\":true}") == 0,
	   "a kind's prompt is filled in");
	free(request.url);
	ok(tsk_dialect_write(&d, "{\"text\": \"a\"}", 13, &mr_env_malloc, &request, &st) == MR_INVALID && strstr(st.message, "no \"how\"") && request.url == NULL,
	   "what it lacks is named");
	d.prompt = NULL;
	d.api = TSK_API_OPENAI;
	ok(tsk_dialect_write(&d, "{\"prompt\": \"a\"}", 15, &mr_env_malloc, &request, &st) == MR_OK &&
	   strstr(request.body, "\"stream\":true,\"stream_options\":{\"include_usage\":true}"), "a stream tells its usage");
	free(request.url);
}

static void
bad_payloads(void)
{
	static const struct
	{
		tsk_ask		ask;
		const char *payload,
				   *message;
	}			cases[] = {
		{TSK_ASK_TEXT, "{}", "\"prompt\" must be a text, or"},
		{TSK_ASK_TEXT, "[]", "expected an object"},
		{TSK_ASK_TEXT, "", "it ends"},
		{TSK_ASK_TEXT, "{\"prompt\": 5}", "must be a text"},
		{TSK_ASK_TEXT, "{\"prompt\": \"a\", \"messages\": []}", "exclude each other"},
		{TSK_ASK_TEXT, "{\"messages\": []}", "array of objects"},
		{TSK_ASK_TEXT, "{\"messages\": [\"a\"]}", "array of objects"},
		{TSK_ASK_TEXT, "{\"prompt\": \"a\", \"system\": {}}", "\"system\" must"},
		{TSK_ASK_TEXT, "{\"prompt\": \"a\", \"format\": 1}", "\"format\" must"},
		{TSK_ASK_TEXT, "{\"prompt\": \"a\", \"model\": 1}", "\"model\" must"},
		{TSK_ASK_TEXT, "{\"prompt\": \"a\", \"options\": [1]}", "\"options\" must"},
		{TSK_ASK_TEXT, "{\"prompt\": \"a\", \"options\": {\"stream\": true}}", "option \"stream\" is not allowed"},
		{TSK_ASK_TEXT, "{\"prompt\": \"a\", \"options\": {\"n\": 2}}", "option \"n\" is not allowed"},
		{TSK_ASK_TEXT, "{\"prompt\": \"a\", \"options\": {\"a\\\"b\": 2}}", "is not allowed"},
		{TSK_ASK_VECTORS, "{\"prompt\": \"a\"}", "\"input\" must"},
		{TSK_ASK_VECTORS, "{\"input\": []}", "\"input\" must"},
		{TSK_ASK_VECTORS, "{\"input\": [\"a\", 1]}", "\"input\" must"},
		{TSK_ASK_TEXT, "{\"prompt\": \"\xff\"}", "not UTF-8"}
	};
	tsk_dialect d = {.api = TSK_API_OPENAI,.url = "http://h",.model = "m"};
	tsk_dialect_request request;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		d.ask = cases[i].ask;
		ok(tsk_dialect_write(&d, cases[i].payload, strlen(cases[i].payload), &mr_env_malloc, &request, &st) == MR_INVALID && strstr(st.message, cases[i].message),
		   "%s: %s", cases[i].payload, st.message);
	}
	d.model = NULL;
	d.ask = TSK_ASK_VECTORS;
	ok(tsk_dialect_write(&d, "{\"input\": \"a\"}", 14, &mr_env_malloc, &request, &st) == MR_INVALID && strstr(st.hint, "embedding_model"), "no model");
}

/* ---- answers ---- */

static tsk_dialect_answer answer;

static mr_code
reads(tsk_api api, tsk_ask ask, int n, const char *body)
{
	tsk_dialect_request request = {.api = api,.ask = ask,.n_inputs = n};
	char	   *copy = malloc(strlen(body) + 1);	/* ASan sees who reads behind it */
	mr_code		code;

	memcpy(copy, body, strlen(body));
	st.message[0] = '\0';
	code = tsk_dialect_read(&request, copy, strlen(body), &mr_env_malloc, &answer, &st);
	free(copy);
	return code;
}

static bool
says(tsk_api api, const char *body, const char *text, const char *model, const char *finish, int in, int out)
{
	bool		good;

	if (reads(api, TSK_ASK_TEXT, 0, body) != MR_OK)
	{
		printf("# %s\n", st.message);
		return false;
	}
	good = strcmp(answer.text, text) == 0 && answer.len == strlen(text) && strcmp(answer.model, model) == 0 && strcmp(answer.finish, finish) == 0 &&
		answer.tokens_in == in && answer.tokens_out == out;
	if (!good)
		printf("# \"%s\" %s %s %d %d\n", answer.text, answer.model, answer.finish, answer.tokens_in, answer.tokens_out);
	free(answer.text);
	return good;
}

static void
answers(void)
{
	ok(says(TSK_API_OLLAMA, "{\"model\":\"llama3.2\",\"created_at\":\"2023-08-04T19:22:45.499127Z\",\"response\":\"The sky is blue.\",\"done\":true,\"done_reason\":\"stop\","
			"\"context\":[1,2,3],\"total_duration\":5043500667,\"load_duration\":5025959,\"prompt_eval_count\":26,\"prompt_eval_duration\":325953000,\"eval_count\":290,"
			"\"eval_duration\":4709213000}", "The sky is blue.", "llama3.2", "stop", 26, 290), "Ollama, /api/generate");
	ok(says(TSK_API_OLLAMA, "{\"model\":\"q\",\"created_at\":\"x\",\"message\":{\"role\":\"assistant\",\"content\":\"Hi \\ud83d\\ude00\",\"thinking\":\"hm\"},\"done_reason\":\"length\","
			"\"done\":true,\"prompt_eval_count\":1,\"eval_count\":2}\n", "Hi \xf0\x9f\x98\x80", "q", "length", 1, 2), "/api/chat");
	ok(says(TSK_API_OLLAMA, "{\"model\":\"q\",\"message\":{\"role\":\"assistant\",\"content\":\"The\",\"images\":null},\"done\":false}\n"
			"{\"model\":\"q\",\"message\":{\"role\":\"assistant\",\"content\":\" sky\"},\"done\":false}\r\n"
			"{\"model\":\"q\",\"message\":{\"role\":\"assistant\",\"content\":\"!\"},\"done\":true,\"done_reason\":\"stop\",\"eval_count\":3}\n", "The sky!", "q", "stop", -1, 3),
	   "a stream; a cached prompt is not counted");
	ok(says(TSK_API_OPENAI, "{\"id\":\"chatcmpl-B9\",\"object\":\"chat.completion\",\"created\":1741569952,\"model\":\"gpt-4.1-2025-04-14\",\"choices\":[{\"index\":0,"
			"\"message\":{\"role\":\"assistant\",\"content\":\"Hello!\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
			"\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29,\"prompt_tokens_details\":{\"cached_tokens\":0}},\"service_tier\":\"default\"}",
			"Hello!", "gpt-4.1-2025-04-14", "stop", 19, 10), "OpenAI");
	ok(says(TSK_API_OPENAI, "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"Qwen/Qwen2.5\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
			"\"reasoning_content\":null,\"content\":\"Yes\",\"tool_calls\":[ ]},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}],\"usage\":{\"prompt_tokens\":5,"
			"\"total_tokens\":7,\"completion_tokens\":2,\"prompt_tokens_details\":null},\"prompt_logprobs\":null}", "Yes", "Qwen/Qwen2.5", "stop", 5, 2), "vLLM");
	ok(says(TSK_API_OPENAI, "{\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Da\"}}],\"created\":1,\"model\":\"gpt-3.5-turbo\","
			"\"system_fingerprint\":\"b4\",\"object\":\"chat.completion\",\"usage\":{\"completion_tokens\":1,\"prompt_tokens\":2,\"total_tokens\":3},\"id\":\"x\",\"timings\":{\"prompt_n\":2}}",
			"Da", "gpt-3.5-turbo", "stop", 2, 1), "llama.cpp");
	ok(says(TSK_API_OPENAI, "{\"model\":\"magistral\",\"choices\":[{\"index\":0,\"message\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"hm\"}]},"
			"{\"type\":\"text\",\"text\":\"So\"},{\"text\":\" be it\"}]},\"finish_reason\":\"stop\"}]}", "So be it", "magistral", "stop", -1, -1), "content in parts");
	ok(says(TSK_API_OPENAI, "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
			"\"finish_reason\":null}],\"usage\":null}\n\ndata: {\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}]}\n\n"
			"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
			"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\ndata: [DONE]\n\n", "Hello", "gpt-4o", "stop", 9, 2),
	   "a stream with its usage at the end");
	ok(says(TSK_API_OPENAI, ": ping\r\n\r\nevent: message\r\ndata:\r\n\r\ndata:{\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\r\n\r\n"
			"data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"length\"}]}\r\n\r\ndata: [DONE]", "a", "", "length", -1, -1),
	   "CR LF, comments, null at first, no blank behind the end");
	ok(says(TSK_API_OPENAI, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n", "a", "", "stop", -1, -1), "a reason to finish is an end");
}

static bool
fails(tsk_api api, tsk_ask ask, int n, const char *body, const char *message)
{
	mr_code		code = reads(api, ask, n, body);

	if (code == MR_INVALID && strstr(st.message, message) && answer.text == NULL && answer.vectors == NULL)
		return true;
	printf("# %d %s\n", code, st.message);
	return false;
}

static void
bad_answers(void)
{
	const char *half = "{\"model\":\"q\",\"response\":\"The\",\"done\":false}\n";
	const tsk_api ollama = TSK_API_OLLAMA,
				openai = TSK_API_OPENAI;

	ok(fails(ollama, TSK_ASK_TEXT, 0, half, "cut off: it has no end"), "a stream without its end");
	ok(fails(ollama, TSK_ASK_TEXT, 0, "{\"response\":\"The\",\"do", "it ends after"), "amid a line");
	ok(fails(ollama, TSK_ASK_TEXT, 0, "{\"error\":\"model 'x' not found\"}", "is an error: model 'x' not found"), "Ollama's error");
	ok(fails(ollama, TSK_ASK_TEXT, 0, "{\"response\":\"a\",\"done\":false}\n{\"error\":\"an error was encountered while running the model\"}", "is an error: an error was"),
	   "amid a stream");
	ok(fails(ollama, TSK_ASK_TEXT, 0, "{\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{}}}]},\"done\":true}",
			 "calls a tool"), "a tool call");
	ok(fails(ollama, TSK_ASK_TEXT, 0, "{\"response\":\"\",\"done\":true,\"done_reason\":\"load\"}", "no text, it ended by load"), "no text");
	ok(fails(ollama, TSK_ASK_TEXT, 0, "<html>", "expected an object"), "a page");
	ok(fails(ollama, TSK_ASK_TEXT, 0, "", "it ends after 0 bytes"), "nothing");
	ok(fails(ollama, TSK_ASK_TEXT, 0, "{\"response\":\"\xe9\",\"done\":true}", "not UTF-8"), "Latin-1");
	ok(fails(ollama, TSK_ASK_TEXT, 0, "{\"response\":\"a\\u0000\",\"done\":true}", "\\u0000"), "NUL");
	ok(fails(ollama, TSK_ASK_TEXT, 0, "{\"response\":{\"a\":1},\"done\":true}", "expected a text"), "an object for a text");
	ok(fails(openai, TSK_ASK_TEXT, 0, "{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\","
			 "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"tool_calls\"}]}", "calls a tool"), "OpenAI's tool call");
	ok(fails(openai, TSK_ASK_TEXT, 0, "{\"choices\":[{\"message\":{\"content\":null,\"function_call\":{\"name\":\"f\"}},\"finish_reason\":\"function_call\"}]}", "calls a tool"),
	   "the old one");
	ok(fails(openai, TSK_ASK_TEXT, 0, "{\"choices\":[{\"message\":{\"content\":null},\"finish_reason\":\"content_filter\"}]}", "no text, it ended by content_filter"), "null");
	ok(fails(openai, TSK_ASK_TEXT, 0, "{\"choices\":[{\"message\":{\"content\":null,\"refusal\":\"I can't\"},\"finish_reason\":\"stop\"}]}", "refuses: I can't"), "a refusal");
	ok(fails(openai, TSK_ASK_TEXT, 0, "{\"choices\":[]}", "no text"), "no choice");
	ok(fails(openai, TSK_ASK_TEXT, 0, "{\"choices\":[{\"message\":{\"content\":\"a\"}},{\"message\":{\"content\":\"b\"}}]}", "more than one choice"), "two");
	ok(fails(openai, TSK_ASK_TEXT, 0, "{\"error\":{\"message\":\"The server had an error\",\"type\":\"server_error\",\"param\":null,\"code\":null}}",
			 "is an error: The server had an error"), "OpenAI's error");
	ok(fails(openai, TSK_ASK_TEXT, 0, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"error\":{\"code\":500,\"message\":\"context\",\"type\":\"server_error\"}}\n\n",
			 "is an error: context"), "llama.cpp's amid a stream");
	ok(fails(openai, TSK_ASK_TEXT, 0, "error: {\"code\":400,\"message\":\"too long\",\"type\":\"invalid_request_error\"}\n\ndata: [DONE]\n\n", "is an error: too long"),
	   "llama.cpp's until 2025");
	ok(fails(openai, TSK_ASK_TEXT, 0, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n", "cut off"), "a stream of events without its end");
	ok(fails(openai, TSK_ASK_TEXT, 0, "data: [DONE]\n\n", "no text"), "nothing but an end");
	ok(fails(openai, TSK_ASK_TEXT, 0, "<html><body>Log in</body></html>", "neither JSON nor a stream"), "a page");
	ok(fails(openai, TSK_ASK_TEXT, 0, "{\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]} x", "expected the end"), "something behind it");
}

static void
vectors(void)
{
	ok(reads(TSK_API_OLLAMA, TSK_ASK_VECTORS, 2, "{\"model\":\"all-minilm\",\"embeddings\":[[0.5,-1e-3],[2,3]],\"total_duration\":14143917,\"load_duration\":1019500,"
			 "\"prompt_eval_count\":8}") == MR_OK && answer.n == 2 && answer.dim == 2 && answer.vectors[0] == 0.5f && answer.vectors[1] == -1e-3f &&
	   answer.vectors[3] == 3 && answer.tokens_in == 8 && answer.tokens_out == -1 && strcmp(answer.model, "all-minilm") == 0, "Ollama's vectors");
	free(answer.vectors);
	ok(reads(TSK_API_OPENAI, TSK_ASK_VECTORS, 2, "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"embedding\":[1,2,3],\"index\":1},{\"object\":\"embedding\",\"index\":0,"
			 "\"embedding\":[4,5,6]}],\"model\":\"text-embedding-3-small\",\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}") == MR_OK && answer.dim == 3 &&
	   answer.vectors[0] == 4 && answer.vectors[3] == 1 && answer.tokens_in == 8, "OpenAI's, by their index");
	free(answer.vectors);
	ok(fails(TSK_API_OLLAMA, TSK_ASK_VECTORS, 2, "{\"embeddings\":[[1,2]]}", "lacks vector 2 of 2"), "too few");
	ok(fails(TSK_API_OLLAMA, TSK_ASK_VECTORS, 1, "{\"embeddings\":[[1,2],[3,4]]}", "other vectors than the 1"), "too many");
	ok(fails(TSK_API_OLLAMA, TSK_ASK_VECTORS, 2, "{\"embeddings\":[[1,2],[3]]}", "differ in length"), "of other lengths");
	ok(fails(TSK_API_OLLAMA, TSK_ASK_VECTORS, 2, "{\"embeddings\":[[1],[3,4]]}", "differ in length"), "longer ones");
	ok(fails(TSK_API_OLLAMA, TSK_ASK_VECTORS, 1, "{\"embeddings\":[[]]}", "is empty"), "an empty one");
	ok(fails(TSK_API_OLLAMA, TSK_ASK_VECTORS, 1, "{\"embeddings\":[[1e39]]}", "out of range"), "a number too large");
	ok(fails(TSK_API_OLLAMA, TSK_ASK_VECTORS, 1, "{\"embeddings\":[[null]]}", "expected a number"), "null");
	ok(fails(TSK_API_OLLAMA, TSK_ASK_VECTORS, 1000000000, "{\"embeddings\":[[1,2,3]]}", "less than 1000000000 vectors"), "a lie costs no memory");
	ok(fails(TSK_API_OLLAMA, TSK_ASK_VECTORS, 1, "{}", "lacks vector 1"), "none");
	ok(fails(TSK_API_OPENAI, TSK_ASK_VECTORS, 2, "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":0,\"embedding\":[1]}]}", "other vectors"), "one twice");
	ok(fails(TSK_API_OPENAI, TSK_ASK_VECTORS, 1, "{\"data\":[{\"index\":7,\"embedding\":[1]}]}", "other vectors"), "of no input");
	ok(fails(TSK_API_OPENAI, TSK_ASK_VECTORS, 1, "{\"data\":[{\"index\":0,\"embedding\":\"AACAPw==\"}]}", "expected an array"), "base64");
	ok(fails(TSK_API_OPENAI, TSK_ASK_VECTORS, 1, "{\"data\":[{\"index\":0}]}", "an embedding in every"), "without");
}

/* Every beginning of a good answer is none, but for those that lack white space alone. */
static void
beginnings(void)
{
	const char *stream = "{\"response\":\"T\\u00e9\",\"done\":false}\n{\"response\":\"\",\"done\":true}";
	const char *list = "{\"data\":[{\"index\":0,\"embedding\":[1.5,2]},{\"index\":1,\"embedding\":[3,4]}],\"model\":\"m\"}";
	bool		good = true;

	for (size_t n = 0; n < strlen(stream); n++)
	{
		char	   *part = strndup(stream, n);

		good = good && reads(TSK_API_OLLAMA, TSK_ASK_TEXT, 0, part) == MR_INVALID;
		free(part);
	}
	for (size_t n = 0; n < strlen(list); n++)
	{
		char	   *part = strndup(list, n);

		good = good && reads(TSK_API_OPENAI, TSK_ASK_VECTORS, 2, part) == MR_INVALID;
		free(part);
	}
	ok(good, "no beginning passes for the whole");
}

/* ---- errors ---- */

static void
errors(void)
{
	static const struct
	{
		const char *body,
				   *text;
	}			cases[] = {
		{"{\"error\":\"model 'x' not found\"}", "model 'x' not found"},
		{"{\"error\":{\"message\":\"Incorrect API key\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"invalid_api_key\"}}", "Incorrect API key"},
		{"{\"error\":{\"code\":400,\"message\":\"too\\nlong\",\"type\":\"x\"}}", "too long"},
		{"{\"object\":\"error\",\"message\":\"The model `x` does not exist.\",\"type\":\"NotFoundError\",\"param\":null,\"code\":404}", "The model `x` does not exist."},
		{"{\"detail\":\"Not Found\"}", "Not Found"},
		{"{\"detail\":[{\"loc\":[\"body\"],\"msg\":\"field required\",\"type\":\"value_error\"}]}", "field required"},
		{"[{\"error\":{\"code\":400,\"message\":\"API key not valid\",\"status\":\"INVALID_ARGUMENT\"}}]", "API key not valid"},
		{"<html>\n<head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"},
		{"no healthy\tupstream\n", "no healthy upstream"},
		{"{\"error\":", "{\"error\":"},
		{"a\xff\xc3\x28\x01 \xc3\xa9", "a?" "?( \xc3\xa9"},
		{"{\"error\":{\"error\":{\"error\":{\"error\":{\"error\":\"deep\"}}}}}", "{\"error\":{\"error\":{\"error\":{\"error\":{\"error\":\"deep\"}}}}}"},
		{"", ""}
	};
	char		out[200],
				small[9],
				text[64] = "key sk-canary-12 or sk-canary-12";

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		tsk_dialect_error(cases[i].body, strlen(cases[i].body), out, sizeof(out));
		if (!ok(strcmp(out, cases[i].text) == 0, "%s", cases[i].text))
			printf("# %s\n", out);
	}
	tsk_dialect_error("{\"error\":\"abcdefg\xc3\xa9\"}", 20, small, sizeof(small));
	ok(strcmp(small, "abcdefg") == 0, "cut between characters");
	tsk_dialect_error("abcdefg\xc3\xa9", 9, small, sizeof(small));
	ok(strcmp(small, "abcdefg?") == 0, "or what is left of one is masked");
	tsk_dialect_blot(text, strlen(text), "sk-canary-12");
	ok(strcmp(text, "key ************ or ************") == 0, "a repeated secret is blotted out");
	tsk_dialect_blot(text, strlen(text), "or");
	ok(strstr(text, " or "), "one that is too short to be one is not");
}

int
main(void)
{
	requests();
	urls();
	prompts();
	bad_payloads();
	answers();
	bad_answers();
	vectors();
	beginnings();
	errors();
	return done_testing();
}
