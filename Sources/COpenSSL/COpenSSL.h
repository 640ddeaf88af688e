// OpenSSL: libcrypto, libssl, and the macros of theirs that Swift does not see.
#pragma once
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <time.h>

// SHA-256 by the functions that need no provider. The first digest by EVP would make all that OpenSSL can known to it, which takes 2 MiB of
// memory, and each would look the algorithm up.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static inline void copenssl_sha256_begin(SHA256_CTX *state) { SHA256_Init(state); }
static inline void copenssl_sha256_add(SHA256_CTX *state, const void *bytes, size_t count) { SHA256_Update(state, bytes, count); }
static inline void copenssl_sha256_finish(SHA256_CTX *state, unsigned char *digest) { SHA256_Final(digest, state); }
#pragma GCC diagnostic pop

/// Writes the SHA-256 of bytes to the 32 bytes of `digest`.
static inline void copenssl_sha256(const void *bytes, size_t count, unsigned char *digest) {
    SHA256_CTX state;
    copenssl_sha256_begin(&state);
    copenssl_sha256_add(&state, bytes, count);
    copenssl_sha256_finish(&state, digest);
}

/// HTTP/1.1 or 1.0 by ALPN; a client that lists other protocols only is told so (RFC 7301 section 3.2).
static inline int copenssl_choose_protocol(SSL *session, const unsigned char **chosen, unsigned char *length,
                                           const unsigned char *offered, unsigned int count, void *context) {
    static const unsigned char ours[] = "\x08http/1.1\x08http/1.0";
    (void)session, (void)context;
    return SSL_select_next_proto((unsigned char **)chosen, length, ours, sizeof ours - 1, offered, count) == OPENSSL_NPN_NEGOTIATED
        ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/// What each server context has: no renegotiation, no cache that clients could fill, no buffers while idle, and writes that
/// may be continued from another address.
static inline void copenssl_set_defaults(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(context, copenssl_choose_protocol, NULL);
    // An authority below a root is one too, as in Go.
    X509_STORE_set_flags(SSL_CTX_get_cert_store(context), X509_V_FLAG_PARTIAL_CHAIN);
}

/// Key exchanges and suites whose cost for a server is small and whose key is of one connection: with large finite fields (ffdhe)
/// a hello of 1 KiB would cost a server 90 ms, and its sender nothing (CVE-2002-20001).
static inline int copenssl_bound_costs(SSL_CTX *context) {
    // A FIPS provider has no X25519, and a list with a name that nobody knows is refused as a whole.
    return (SSL_CTX_set1_groups_list(context, "X25519:P-256:P-384") || SSL_CTX_set1_groups_list(context, "P-256:P-384"))
        && SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!PSK")
        && SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
}

// OpenSSL reads on and on while records come that hold no data (key updates, refused renegotiations), so that one client
// could keep a thread for itself.  The socket therefore pretends to be empty after so many reads; the poller knows better.
// It also fails after so many bytes while the handshake lasts: OpenSSL would keep 128 KiB of each client's hello.
struct copenssl_allowance { int reads, bytes, is_shaking_hands; };
static inline long copenssl_count_read(BIO *socket, int operation, const char *bytes, size_t size, int argi, long argl, int result,
                                       size_t *done) {
    (void)bytes, (void)size, (void)argi, (void)argl;
    struct copenssl_allowance *left = (struct copenssl_allowance *)BIO_get_callback_arg(socket);
    if (!left) return result;
    if (operation == (BIO_CB_READ | BIO_CB_RETURN) && result > 0 && done && left->is_shaking_hands) {
        left->bytes -= (int)*done; // One read brings a record at most.
        return left->bytes < 0 ? -1 : result;
    }
    if (operation != BIO_CB_READ) return result;
    if (left->reads-- > 0) return result;
    BIO_set_retry_read(socket);
    return -1;
}
/// Bounds what is read of a session's socket by `left`, which must live as long as the session.
static inline void copenssl_bound_reads(SSL *session, struct copenssl_allowance *left) {
    BIO_set_callback_arg(SSL_get_rbio(session), (char *)left);
    BIO_set_callback_ex(SSL_get_rbio(session), copenssl_count_read);
}

// An authority that has no list of what it revoked is only a fault where the client's own certificate is of it: who signed the
// authorities themselves need not be known here.
static inline int copenssl_allow_unlisted_authority(int ok, X509_STORE_CTX *verification) {
    if (ok || X509_STORE_CTX_get_error(verification) != X509_V_ERR_UNABLE_TO_GET_CRL || X509_STORE_CTX_get_error_depth(verification) == 0)
        return ok;
    X509_STORE_CTX_set_error(verification, X509_V_OK);
    return 1;
}

/// Has the lists of revoked certificates looked at whenever a client's certificate is verified.
static inline void copenssl_check_revocation(SSL_CTX *context) {
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    X509_STORE_set_verify_cb(store, copenssl_allow_unlisted_authority);
}

/// When a certificate expires, Unix time; the largest number where it does not say.
static inline int64_t copenssl_end(const X509 *certificate) {
    struct tm time;
    return certificate && ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &time) == 1 ? (int64_t)timegm(&time) : INT64_MAX;
}

/// When the certificate that a server shows expires, without those of its authorities.
static inline int64_t copenssl_server_end(const SSL_CTX *context) { return copenssl_end(SSL_CTX_get0_certificate(context)); }

/// When the first certificate of a chain expires, Unix time; the largest number where there is no chain.
static inline int64_t copenssl_chain_end(const STACK_OF(X509) *chain) {
    int64_t end = INT64_MAX;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        int64_t own = copenssl_end(sk_X509_value(chain, i));
        if (own < end) end = own;
    }
    return end;
}
static inline int64_t copenssl_client_end(SSL *session) { return copenssl_chain_end(SSL_get0_verified_chain(session)); }

/// Verifies the certificate that a client has shown once more, by another context's authorities and lists: what OpenSSL finds
/// wrong with it, or `X509_V_OK` and when the chain that leads there ends.
static inline int copenssl_verify_again(SSL *session, SSL_CTX *context, int64_t *end) {
    X509_STORE_CTX *verification = X509_STORE_CTX_new();
    int error = X509_V_ERR_OUT_OF_MEM;
    if (verification && X509_STORE_CTX_init(verification, SSL_CTX_get_cert_store(context), SSL_get0_peer_certificate(session),
                                            SSL_get_peer_cert_chain(session))) {
        X509_STORE_CTX_set_default(verification, "ssl_client");
        error = X509_verify_cert(verification) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(verification);
        if (error == X509_V_OK) *end = copenssl_chain_end(X509_STORE_CTX_get0_chain(verification));
        if (error == X509_V_OK && *end == INT64_MAX) error = X509_V_ERR_UNSPECIFIED;
    }
    X509_STORE_CTX_free(verification);
    ERR_clear_error();
    return error;
}

/// Every connection is a full handshake.
static inline void copenssl_disable_resumption(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(context, 0);
}

static inline int copenssl_set_minimum(SSL_CTX *context, int version) { return SSL_CTX_set_min_proto_version(context, version); }
static inline long copenssl_add_chain(SSL_CTX *context, X509 *certificate) { return SSL_CTX_add1_chain_cert(context, certificate); }
static inline int copenssl_reason(unsigned long error) { return ERR_GET_REASON(error); }
