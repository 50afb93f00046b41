/* Signatures made with dkimpy 1.1.4 and keys made for this. */
#ifndef T_UNIT_FILTERS_DKIM_VECTORS_H
#define T_UNIT_FILTERS_DKIM_VECTORS_H

#define UNUSED __attribute__((unused))	/* not each test needs all */

static const char plain_header[] UNUSED =
	"Received: from a.example by b.example;\r\n"
	"\tMon, 23 Nov 2026 10:00:00 +0000\r\n"
	"From: Ann  <ann@example.org>\r\n"
	"To: bob@example.net\r\n"
	"Subject: a  folded\r\n"
	"\t subject \r\n"
	"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n"
	"Message-ID: <1@example.org>\r\n";

static const char plain_body[] UNUSED =
	"Hello,  Bob \r\n"
	"\r\n"
	".dot and\ttab\t\r\n"
	"\r\n"
	"\r\n";

static const char rsa_public[] UNUSED =
	"MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC5V4+rxKP5CBl4hiAvx4rQGijp"
	"gFwTY5PrZtHu1EfR3oTWuzUJ8l5Ux3XhkitvsA3tDTx0ge9NkQRyDLyRi2+sXMKT"
	"vtsBiS++bsLXILWQGMnxRdIjTDZlhGKFl80UsYd4p9cvT/qH35TWGuEWxqPFgZh+"
	"7eI5Nn/NMQMqxvvtMQIDAQAB";

static const char small_public[] UNUSED =
	"MHwwDQYJKoZIhvcNAQEBBQADawAwaAJhAOxcv3xlWoc9XbXOqHP9mTZyvGUqLMrj"
	"j+PtCYBYn8/K5JTR+2PSD4LbLNF/5IlDQbang8pMbY7BVojlMqNJbwiDlvvZPIeB"
	"LvTuyvwp0VacVTp5/WVLVXNguu0UYacqPwIDAQAB";

static const char ed25519_public[] UNUSED =
	"dU5c0PdSfZGkhh7SIltWzN7w0o0PZqk8xdlFr9UpdYY=";

static const char rsa_private[] UNUSED =
	"-----BEGIN RSA PRIVATE KEY-----\n"
	"MIICWwIBAAKBgQC5V4+rxKP5CBl4hiAvx4rQGijpgFwTY5PrZtHu1EfR3oTWuzUJ\n"
	"8l5Ux3XhkitvsA3tDTx0ge9NkQRyDLyRi2+sXMKTvtsBiS++bsLXILWQGMnxRdIj\n"
	"TDZlhGKFl80UsYd4p9cvT/qH35TWGuEWxqPFgZh+7eI5Nn/NMQMqxvvtMQIDAQAB\n"
	"AoGADAZeT+qmKNYZsPQiynbLzsyjsuKdFrTzN+an4DLtpfQl8jibLFYJQL7gKw5s\n"
	"uwZVIPgm3/g+Km4qN6wT3+2IBS6GniSI5uGxW4pLQl+M7mGbhHV3EjG4eRgQtDFM\n"
	"EunrBTN92zQwnD8IBBCuDpm2FXWUm0WnpfhCM38f1C+XWLECQQDiGJPyzlk3G0ec\n"
	"0XbXJ9luWWLEYkpWQvFNhINoe3++bU2WiKvIyySc4ZkxD7gDz9AzA1E90aB1hiAl\n"
	"Rg/EcsqLAkEA0dsWfGSYRQ+Sxu/kF4DVVsISqTOpOqrLmjiLVhNvgFoKZ5RusZT9\n"
	"pxwNbanq79JShw2Kgtqsgd48f9u7b6iqswJAAbw8jnWE+8ZK02pMJjSZF566AlXa\n"
	"yjSzU2v78jZYcaa3HLupzd25Rzb4DQdY2zaiG3IgEoBkYeKIpqCWCGT1JwJAOEvK\n"
	"u3IM+zHTUTTXfoqcMJr9gJCQTGG3HtceYefy2H7PHbxO+aqbZTH8VDfqA43rf7ld\n"
	"N/9LmccxeadLoAeiSwJAJdBRXpqd3BDnV8UguLxEgneVMown/8E/EdD6XkXu/m6C\n"
	"5wVJNpLcVa8nF37fBAro35SbaRLENZS79VZKWFb7LA==\n"
	"-----END RSA PRIVATE KEY-----\n";

static const char ed25519_private[] UNUSED =
	"-----BEGIN PRIVATE KEY-----\n"
	"MC4CAQAwBQYDK2VwBCIEIHfogVBWNxKMVVMAXoGVNUISyVU4GEXB0NxQrwTS/+u6\n"
	"-----END PRIVATE KEY-----\n";

static const char small_private[] UNUSED =
	"-----BEGIN RSA PRIVATE KEY-----\n"
	"MIIBywIBAAJhAOxcv3xlWoc9XbXOqHP9mTZyvGUqLMrjj+PtCYBYn8/K5JTR+2PS\n"
	"D4LbLNF/5IlDQbang8pMbY7BVojlMqNJbwiDlvvZPIeBLvTuyvwp0VacVTp5/WVL\n"
	"VXNguu0UYacqPwIDAQABAmBm64fx6cw+oUkB1ofhYebqH5HLV08D1Y0dSWTevzhv\n"
	"acCY0MpvT9OzPi7I1rCz2FWZqt0AE5TpegpmjHpUG8+0VKougSwqCJ0BMcu8x7ku\n"
	"fMKayg6gDNKQXcm7G4xp0ZkCMQD6SXyuPVSWTTUcp+BHiJWohRYEC8f+Xg7dlsSD\n"
	"e5q4hwO+dj5AF1agyxT1EICgnesCMQDxweTQkse4q+4av/Jf3FZdLtfG6JFm4368\n"
	"JfyZLXk96GH3xR4i4naSfnLtA7HmC/0CMQC6kBqK+pZZrtVfNdedGreLtSBTBcEe\n"
	"31evXtm+tF0BHUryJsuCFKNzGc3WWmW2098CMHMeV/21lyLpw8S7GAfrnLhcgOU3\n"
	"g11SANxI3mJ2U+BV0qiwFWyZF8skKUeRVdnsZQIxALqk6rg+rcm2Cp5+zJUavnBg\n"
	"ofmXCx7VrNnXaTU8mcket3xYJrt2VTkvF/5EiMERmg==\n"
	"-----END RSA PRIVATE KEY-----\n";

static const char rsa_relaxed[] UNUSED =
	"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d="
	"example.org;\r\n"
	" i=@example.org; q=dns/txt; s=r; t=1700000000; h=from : "
	"to : subject :\r\n"
	" date : message-id; bh=XfS7lbosnyvRsDxzQc/YVYrYBd2bZA69C"
	"4bjgGr8fDQ=;\r\n"
	" b=Iz0abvPhepAWuJznRBjaAChvTVpX7hZ1eebqkIbppu+u5XhL44hws"
	"R7eN0p6hPk+3uyQj\r\n"
	" Oar8z3+PK2DpUghCwFOIaxeu01c9sv4Xomw+6zKqpL6EirSGrNOxlVL"
	"VwGqNHB/tA+75ED8\r\n"
	" ByV9FovJ0pMPzrfMWVhnAx0KmC5/cnM=\r\n";

static const char rsa_sha1[] UNUSED =
	"DKIM-Signature: v=1; a=rsa-sha1; c=relaxed/relaxed; d=ex"
	"ample.org;\r\n"
	" i=@example.org; q=dns/txt; s=r; t=1700000000; h=from : "
	"to : subject :\r\n"
	" date : message-id; bh=n6H0Gq6GZcOotEUAdJZc5j9oIAM=;\r\n"
	" b=QUwhNSe8pMv22RrS2JEfHggvz9OzD1naLvvN5K6NYCEE8bjGAeK6+"
	"3dc8CfY21kqTrcKw\r\n"
	" x0zVYlgx2SZE832EAniofROUE5/aLhR4MSmklYDLM/T/WWrPt/PNw/z"
	"iGBRV+1TkCxhiAAP\r\n"
	" jGsC11ogwX6jcqnbsNhAAJitLxmHJ3M=\r\n";

static const char rsa_simple[] UNUSED =
	"DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=ex"
	"ample.org;\r\n"
	" i=@example.org; q=dns/txt; s=r; t=1700000000; h=from : "
	"to : subject :\r\n"
	" date : message-id; bh=n56j2DLM2IgizwVY41B2wrRukHklVKz9s"
	"+A4ZJEvKHg=;\r\n"
	" b=D/moU5iRbGOaAzABH5RZqPeZ/QVKjmujn6QtMywNf707MnqpTMKtd"
	"YzSwXxZkxBnFvnyK\r\n"
	" oM/sggEdbF6Zz26fbEvgKznoNYiJxuVh6zsUVC3gl4hYvDQqXE3gIIs"
	"G36jiEnCH+urQcV9\r\n"
	" /5vryVPD++VTyaFm3XcxwFwRGwgCSEs=\r\n";

static const char rsa_mixed[] UNUSED =
	"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=e"
	"xample.org;\r\n"
	" i=@example.org; q=dns/txt; s=r; t=1700000000; h=from : "
	"to : subject :\r\n"
	" date : message-id; bh=n56j2DLM2IgizwVY41B2wrRukHklVKz9s"
	"+A4ZJEvKHg=;\r\n"
	" b=JZcZM/NfChiv79Y6oh9ht5rKZB01bMwPUvBBMeuMwszuCDaUF69wz"
	"C+YRQK1TjGf9LX9M\r\n"
	" DbWl+2tgUR/t/YLrknamDPRVVFY44Y3dj5TfoJzNvhYLOfZCKSxuuP8"
	"etHDk8erQ0dXnPNQ\r\n"
	" ffmthXmuQm0cg/IGKNl8uBiHVeIrOOU=\r\n";

static const char ed_relaxed[] UNUSED =
	"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed"
	"; d=example.org;\r\n"
	" i=@example.org; q=dns/txt; s=e; t=1700000000; h=from : "
	"to : subject :\r\n"
	" date : message-id; bh=XfS7lbosnyvRsDxzQc/YVYrYBd2bZA69C"
	"4bjgGr8fDQ=;\r\n"
	" b=aeD9tcRIDJBH1889aoMV1CDc1xxYUnIqsPDlZC0ydKGhzmClvwW+j"
	"fcrnjjLh2WW6l2rI\r\n"
	" 1jPupCxwwMP2x9UDQ==\r\n";

static const char length[] UNUSED =
	"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d="
	"example.org;\r\n"
	" i=@example.org; l=28; q=dns/txt; s=r; t=1700000000; h=f"
	"rom : to :\r\n"
	" subject : date : message-id;\r\n"
	" bh=XfS7lbosnyvRsDxzQc/YVYrYBd2bZA69C4bjgGr8fDQ=;\r\n"
	" b=SJo4kicCgSthEc3R2RzHfLER8rrEi3UV78Dt7ES6eyjCFPVek9qVP"
	"1yI55lHSPQpUyMDI\r\n"
	" XPQY8GvRpQVeQlqkfc1hcd0Ky1zwMLeW1lGL0pdKuuFXdo9tCbl5/jt"
	"03BJOY98hXahggNM\r\n"
	" cso/vmW3+o6aYy4dYsjK3KFVP6ouIFQ=\r\n";

static const char length_simple[] UNUSED =
	"DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=ex"
	"ample.org;\r\n"
	" i=@example.org; l=31; q=dns/txt; s=r; t=1700000000; h=f"
	"rom : to :\r\n"
	" subject : date : message-id;\r\n"
	" bh=n56j2DLM2IgizwVY41B2wrRukHklVKz9s+A4ZJEvKHg=;\r\n"
	" b=Mopvv/Gd2+lFZngLl6yMHbBy++DE64ztAfVZpkmQeZSxHyy6s53pe"
	"d1bcUZWpjK+7DNA5\r\n"
	" HJfBuyAC9AzvCugov6/jTJVM3u0cVniuBROJtliZyjev2kHnFLJ/Py0"
	"ECbK7CxUPYoWQLw3\r\n"
	" Qapt2AXxVKrxkLvCcyl8ur6M9UFp0gY=\r\n";

static const char small[] UNUSED =
	"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d="
	"example.org;\r\n"
	" i=@example.org; q=dns/txt; s=small; t=1700000000; h=fro"
	"m : to :\r\n"
	" subject : date : message-id;\r\n"
	" bh=XfS7lbosnyvRsDxzQc/YVYrYBd2bZA69C4bjgGr8fDQ=;\r\n"
	" b=C5IQeR/ldEhd5i1Pvcx5/X8yuZqoReOrai93pAkWscfn6x5SBd3yq"
	"Gml0o1b1Iu/LAIY9\r\n"
	" 3zbe1npdd+qQbBThitic65iW7Gl/iO2tHTfB/QWoX6dSlyWZZkP5EWo"
	"9U9X\r\n";

static const char identity[] UNUSED =
	"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d="
	"example.org;\r\n"
	" i=ann@mail.example.org; q=dns/txt; s=r; t=1700000000; h"
	"=from : to :\r\n"
	" subject : date : message-id;\r\n"
	" bh=XfS7lbosnyvRsDxzQc/YVYrYBd2bZA69C4bjgGr8fDQ=;\r\n"
	" b=c3yZPvNRglRNHfHN0hFrMIm948w/MFDhvgcla1tExYV+COk5z0gYK"
	"/oyf8XD3Rj20V6R3\r\n"
	" pfSMUgrHO3RwMX6gXb07bGhZHfkXYwlpy8stzXc/d10qQVM+a1X+84f"
	"U5Y7w5VizfM65JF5\r\n"
	" 86l0NMaep2o/0/FKqvXu/OxlzpOGQpI=\r\n";
static const char ec_private[] UNUSED =
	"-----BEGIN PRIVATE KEY-----\n"
	"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg10u78TTO0QWH8dvN\n"
	"1X+z8LYG+1qeD8tvcI/WFUR2c0ehRANCAARQHzOYtnzrlSwZK/Sd4I0aL3ktQxGU\n"
	"G6OKGm7Auq2KiYOJQQDn5hzu7G4uNNiJi+1F4eF6DPjKq4PwWrc1MSqC\n"
	"-----END PRIVATE KEY-----\n";

#endif
