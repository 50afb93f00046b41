/* Names of clients, networks and texts for keys of the store. */
#include "policy/subject.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/net.h"

bool
subject_client(const char *text, struct sockaddr_storage *client)
{
	struct sockaddr_in *in = (struct sockaddr_in *)client;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)client;

	memset(client, 0, sizeof(*client));
	if (text == NULL)
		return false;
	if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		return true;
	}
	if (inet_pton(AF_INET6, text, &in6->sin6_addr) != 1)
		return false;
	in6->sin6_family = AF_INET6;
	net_unmap(client);
	return true;
}

static void
mask(unsigned char *bytes, size_t len, int64_t prefix)
{
	for (size_t i = 0; i < len; i++, prefix -= 8)
		if (prefix <= 0)
			bytes[i] = 0;
		else if (prefix < 8)
			bytes[i] &= (unsigned char)(0xff00 >> prefix);
}

void
subject_network(const struct sockaddr_storage *client, int64_t ipv4_prefix,
    int64_t ipv6_prefix, char text[SUBJECT_NETWORK_SIZE])
{
	bool v4 = client->ss_family == AF_INET;
	int64_t prefix = v4 ? ipv4_prefix : ipv6_prefix;
	unsigned char bytes[16];
	char address[INET6_ADDRSTRLEN];

	if (v4)
		memcpy(bytes, &((const struct sockaddr_in *)client)->sin_addr,
		    4);
	else
		memcpy(bytes,
		    &((const struct sockaddr_in6 *)client)->sin6_addr, 16);
	mask(bytes, v4 ? 4 : 16, prefix);
	inet_ntop(client->ss_family, bytes, address, sizeof(address));
	snprintf(text, SUBJECT_NETWORK_SIZE, "%s/%d", address, (int)prefix);
}

static void
digest_add(EVP_MD_CTX *digest, const char *text)
{
	unsigned char lower[256];
	size_t n = 0;

	do {
		unsigned char c = (unsigned char)*text;

		lower[n++] = c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) :
		    c;
		if (n < sizeof(lower) && c != '\0')
			continue;
		EVP_DigestUpdate(digest, lower, n);
		n = 0;
	} while (*text++ != '\0');
}

/* Looking for the algorithm takes OpenSSL longer than a digest. */
static EVP_MD_CTX *
begin_digest(void)
{
	static EVP_MD_CTX *digest;
	static EVP_MD *sha256;

	if (digest == NULL) {
		digest = EVP_MD_CTX_new();
		sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	}
	if (digest == NULL || sha256 == NULL ||
	    EVP_DigestInit_ex(digest, sha256, NULL) != 1)
		fatal("policy: no SHA-256");
	return digest;
}

void
subject_bytes(const char *const *texts, size_t count, bool exact,
    unsigned char bytes[SUBJECT_BYTES])
{
	EVP_MD_CTX *digest = begin_digest();
	unsigned char all[EVP_MAX_MD_SIZE];

	for (size_t i = 0; i < count; i++)
		if (exact)
			EVP_DigestUpdate(digest, texts[i],
			    strlen(texts[i]) + 1);
		else
			digest_add(digest, texts[i]);
	EVP_DigestFinal_ex(digest, all, NULL);
	memcpy(bytes, all, SUBJECT_BYTES);
}

void
subject_digest(const char *const *texts, size_t count,
    char hex[SUBJECT_DIGEST_HEX + 1])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char bytes[SUBJECT_BYTES];

	subject_bytes(texts, count, false, bytes);
	for (size_t i = 0; i < SUBJECT_BYTES; i++) {
		hex[2 * i] = digits[bytes[i] >> 4];
		hex[2 * i + 1] = digits[bytes[i] & 15];
	}
	hex[SUBJECT_DIGEST_HEX] = '\0';
}
