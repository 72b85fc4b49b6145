// Reads .gsimg files named on standard input, a JSON list of {file, cuts}, with the viewer's decoder, and prints what
// it found, a JSON object a line. `cuts`: the file is pushed in pieces that end there, and after the last one no more comes.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const { Decoder } = await import(pathToFileURL(process.argv[2]).href);

const bytes = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('base64');

function read({ file, cuts, maxPixels }) {
  const decoder = new Decoder({ maxPixels }), data = new Uint8Array(readFileSync(file));
  decoder.symbols = [];
  const found = { news: 0 };
  try {
    let start = 0;
    for (const end of cuts ?? [data.length]) {
      found.news += decoder.push(data.subarray(start, end)) ? 1 : 0;
      start = end;
    }
    found.missing = decoder.finish();
  } catch (error) {
    if (error.name !== 'FormatError') throw error;
    Object.assign(found, { error: error.message, kind: error.kind });
  }
  const { header, chunks, count, level, size, received, symbols } = decoder;
  if (!header) return found;
  const { width, height, channels, blend, topK, planes } = header;
  const arrays = {
    means: decoder.means.subarray(0, 2 * count),
    scales: decoder.scales.subarray(0, 2 * count),
    rotations: decoder.rotations.subarray(0, count),
    colors: decoder.colors.subarray(0, channels * count),
    background: header.background,
  };
  for (const name in arrays) found[name] = bytes(arrays[name]);
  return { ...found, width, height, channels, blend, topK, planes, chunks, count, level, size, received, symbols };
}

for (const task of JSON.parse(readFileSync(0))) console.log(JSON.stringify(read(task)));
