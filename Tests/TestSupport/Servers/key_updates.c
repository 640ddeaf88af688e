// A TLS 1.3 client that sends key updates, which contain no data, and then a request: key_updates PORT COUNT REQUEST
// It prints "ready", sends after a line of standard input, and prints the first line of the answer.
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count < 4) return 2;
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) return 1;
    SSL *session = SSL_new(SSL_CTX_new(TLS_client_method()));
    SSL_set_fd(session, descriptor);
    if (SSL_connect(session) != 1) return 1;
    // The records are prepared, so that they are sent as fast as the gateway reads them.
    BIO *memory = BIO_new(BIO_s_mem());
    BIO_up_ref(SSL_get_rbio(session));
    SSL_set0_wbio(session, memory);
    for (long left = atol(words[2]); left > 0; left--)
        if (SSL_key_update(session, SSL_KEY_UPDATE_NOT_REQUESTED) != 1 || SSL_do_handshake(session) != 1) return 1;
    if (SSL_write(session, words[3], (int)strlen(words[3])) <= 0) return 1;
    char *bytes;
    long left = BIO_get_mem_data(memory, &bytes);
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF) return 1;
    while (left > 0) {
        ssize_t sent = write(descriptor, bytes, (size_t)left);
        if (sent <= 0) return 1;
        bytes += sent, left -= sent;
    }
    char answer[4096];
    int length = SSL_read(session, answer, sizeof answer - 1);
    if (length <= 0) return 1;
    answer[length] = 0;
    printf("%s\n", strtok(answer, "\r"));
    return 0;
}
