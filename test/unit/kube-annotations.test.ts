import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FlannelError } from '../../src/errors.js';
import { annotationNames } from '../../src/subnet/kube/annotations.js';

describe('the prefix of annotations', () => {
  const accepted = [
    ['flannel.alpha.coreos.com', 'flannel.alpha.coreos.com/backend-type'],
    ['flannel.alpha.coreos.com/', 'flannel.alpha.coreos.com/backend-type'],
    ['org.com', 'org.com/backend-type'],
    ['org.com/9', 'org.com/9-backend-type'],
    ['org.com/9-', 'org.com/9-backend-type'],
    ['org.com/prefix', 'org.com/prefix-backend-type'],
    ['org.com/pre_fix-', 'org.com/pre_fix-backend-type'],
    ['a-b.c_d.e/x-y', 'a-b.c_d.e/x-y-backend-type'],
  ] as const;
  for (const [prefix, name] of accepted) {
    test(`${prefix} gives ${name}`, () => {
      assert.equal(annotationNames(prefix).backendType, name);
    });
  }

  const refused = [
    ...['', 'org', 'org/', 'org/prefix', 'org.COM', 'org.com/PREFIX', 'org.com//', 'org.com/a/b', '/x'],
    ...['org.com/pre.fix', ' org.com', 'org.com/a b', 'org.com/-\n', 'http://org.com'],
  ];
  for (const prefix of refused) {
    test(`${JSON.stringify(prefix)} is refused`, () => {
      assert.throws(
        () => annotationNames(prefix),
        (error: Error) => error instanceof FlannelError && error.message.includes(JSON.stringify(prefix)),
      );
    });
  }

  test('all names', () => {
    const suffixes = Object.values(annotationNames('org.com')).map((name) => name.slice('org.com/'.length));
    assert.deepEqual(suffixes, [
      ...['kube-subnet-manager', 'backend-type', 'backend-data', 'backend-v6-data'],
      ...['public-ip', 'public-ipv6', 'node-public-ip', 'node-public-ipv6'],
      ...['public-ip-overwrite', 'public-ipv6-overwrite'],
    ]);
  });
});
