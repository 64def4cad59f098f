/*
 * registry.c
 *	  libcurl, and nothing else.  See registry.h.
 *
 * Limits: ten seconds, two megabytes, HTTP and HTTPS only, no redirects, no
 * proxy, certificates verified, and the address is checked where it is connected
 * to, whatever its name resolved to.  libcurl may resolve names in a thread of
 * its own: all signals are blocked while that can start.
 */
#include "stream/worker/registry.h"

#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define TIMEOUT_MS 10000L
#define MAX_BODY (2 << 20)

struct kfk_question
{
	CURLM	   *multi;
	CURL	   *easy;
	struct curl_slist *headers;
	char	   *body;
	size_t		len;
	bool		(*refuses) (const struct sockaddr *address);
	bool		too_large;
	CURLcode	result;
	char		error[CURL_ERROR_SIZE];
};

static size_t
take_body(char *data, size_t size, size_t n, void *arg)
{
	kfk_question *q = arg;
	size_t		len = size * n;
	char	   *more;

	if (q->len + len > MAX_BODY)
	{
		q->too_large = true;
		return 0;
	}
	more = realloc(q->body, q->len + len + 1);
	if (more == NULL)
		return 0;
	memcpy(more + q->len, data, len);
	q->body = more;
	q->len += len;
	q->body[q->len] = '\0';
	return len;
}

static curl_socket_t
open_checked(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	const kfk_question *q = arg;

	if (q->refuses && q->refuses(&address->addr))
		return CURL_SOCKET_BAD;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

void
kfk_ask_end(kfk_question *q)
{
	if (q == NULL)
		return;
	if (q->multi && q->easy)
		curl_multi_remove_handle(q->multi, q->easy);
	if (q->easy)
		curl_easy_cleanup(q->easy);
	if (q->multi)
		curl_multi_cleanup(q->multi);
	curl_slist_free_all(q->headers);
	free(q->body);
	free(q);
}

kfk_question *
kfk_ask(const kfk_registry *registry, const char *path, char *error, size_t error_size)
{
	static bool initialized = false;
	kfk_question *q = calloc(1, sizeof(*q));
	size_t		len = strlen(registry->url);
	char		url[2048];
	bool		good;

	snprintf(error, error_size, "out of memory");
	if (!initialized)
		initialized = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
	while (len > 0 && registry->url[len - 1] == '/')
		len--;
	if ((size_t) snprintf(url, sizeof(url), "%.*s/%s", (int) len, registry->url, path) >= sizeof(url))
	{
		snprintf(error, error_size, "the registry's URL is too long");
		free(q);
		return NULL;
	}
	if (q == NULL || (q->multi = curl_multi_init()) == NULL || (q->easy = curl_easy_init()) == NULL)
	{
		kfk_ask_end(q);
		return NULL;
	}
	q->refuses = registry->refuses;
	q->headers = curl_slist_append(NULL, "Accept: application/vnd.schemaregistry.v1+json, application/json");
	good = curl_easy_setopt(q->easy, CURLOPT_URL, url) == CURLE_OK &&
		curl_easy_setopt(q->easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
		curl_easy_setopt(q->easy, CURLOPT_HTTPHEADER, q->headers) == CURLE_OK &&
		curl_easy_setopt(q->easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
		curl_easy_setopt(q->easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
		curl_easy_setopt(q->easy, CURLOPT_PROXY, "") == CURLE_OK &&
		curl_easy_setopt(q->easy, CURLOPT_TIMEOUT_MS, TIMEOUT_MS) == CURLE_OK &&
		curl_easy_setopt(q->easy, CURLOPT_ERRORBUFFER, q->error) == CURLE_OK &&
		curl_easy_setopt(q->easy, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
		curl_easy_setopt(q->easy, CURLOPT_WRITEDATA, q) == CURLE_OK &&
		curl_easy_setopt(q->easy, CURLOPT_OPENSOCKETFUNCTION, open_checked) == CURLE_OK &&
		curl_easy_setopt(q->easy, CURLOPT_OPENSOCKETDATA, q) == CURLE_OK &&
		curl_easy_setopt(q->easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2) == CURLE_OK;
	if (good && registry->username)
		good = curl_easy_setopt(q->easy, CURLOPT_HTTPAUTH, (long) CURLAUTH_BASIC) == CURLE_OK &&
			curl_easy_setopt(q->easy, CURLOPT_USERNAME, registry->username) == CURLE_OK &&
			curl_easy_setopt(q->easy, CURLOPT_PASSWORD, registry->password ? registry->password : "") == CURLE_OK;
	if (good && registry->ca_pem)
	{
		struct curl_blob pem = {(void *) registry->ca_pem, strlen(registry->ca_pem), CURL_BLOB_COPY};

		good = curl_easy_setopt(q->easy, CURLOPT_CAINFO_BLOB, &pem) == CURLE_OK;
	}
	if (!good || curl_multi_add_handle(q->multi, q->easy) != CURLM_OK)
	{
		snprintf(error, error_size, "libcurl refused to ask the schema registry");
		kfk_ask_end(q);
		return NULL;
	}
	q->result = CURLE_AGAIN;
	return q;
}

bool
kfk_ask_turn(kfk_question *q)
{
	sigset_t	all,
				before;
	int			running = 0;
	int			left;
	CURLMsg    *message;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	(void) curl_multi_perform(q->multi, &running);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	while ((message = curl_multi_info_read(q->multi, &left)) != NULL)
		if (message->msg == CURLMSG_DONE)
			q->result = message->data.result;
	return running == 0;
}

int
kfk_answer(kfk_question *q, const char **body, char *error, size_t error_size)
{
	long		status = 0;

	if (q->result != CURLE_OK)
	{
		snprintf(error, error_size, "%s", q->too_large ? "its answer is larger than 2 MB" : q->error[0] ? q->error : curl_easy_strerror(q->result));
		return 0;
	}
	curl_easy_getinfo(q->easy, CURLINFO_RESPONSE_CODE, &status);
	*body = q->body ? q->body : "";
	return (int) status;
}
