/** CIFAR-10 and CIFAR-100 as the binary batches of https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, 2009). */
import { join } from 'node:path';
import { makeDataset, Split, type Dataset } from './dataset.js';
import { checkLabels, readRecords } from './files.js';

const CIFAR10_CLASSES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'];
const CIFAR100_CLASSES = (
  'apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar cattle chair ' +
  'chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard ' +
  'lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear ' +
  'pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail ' +
  'snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale ' +
  'willow_tree wolf woman worm'
).split(' ');
const CIFAR100_COARSE_CLASSES = (
  'aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture insects large_carnivores ' +
  'large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people ' +
  'reptiles small_mammals trees vehicles_1 vehicles_2'
).split(' ');

const size = 32;
const channels = 3;
const imageBytes = channels * size * size;

/** The files of a data set: each holds `records` records of `labels` label bytes and 3072 pixel bytes (red, green, blue planes). */
interface Batches {
  name: string;
  train: string[];
  test: string[];
  trainRecords: number;
  testRecords: number;
  labels: number;
}

export const CIFAR10: Batches = {
  name: 'cifar10', train: [1, 2, 3, 4, 5].map((k) => `data_batch_${k}.bin`), test: ['test_batch.bin'], trainRecords: 10_000, testRecords: 10_000, labels: 1,
};
export const CIFAR100: Batches = { name: 'cifar100', train: ['train.bin'], test: ['test.bin'], trainRecords: 50_000, testRecords: 10_000, labels: 2 };

/** Reads the batches in `folder`. @param coarse the 20 superclasses of CIFAR-100 instead of its 100 classes */
export async function openCifar(folder: string, batches: Batches, coarse = false): Promise<Dataset> {
  const classes = batches.labels === 1 ? CIFAR10_CLASSES : coarse ? CIFAR100_COARSE_CLASSES : CIFAR100_CLASSES;
  const column = batches.labels === 1 || coarse ? 0 : 1;
  const record = batches.labels + imageBytes;
  const read = async (files: string[], records: number) => {
    const pixels = new Uint8Array(files.length * records * imageBytes);
    const labels = new Uint8Array(files.length * records);
    for (const [k, file] of files.entries()) {
      const path = join(folder, file);
      const own = labels.subarray(k * records, (k + 1) * records);
      await readRecords(path, records, record, (data, first) => {
        for (let at = 0, i = first; at < data.length; at += record, i++) {
          own[i] = data[at + column]!;
          pixels.set(data.subarray(at + batches.labels, at + record), (k * records + i) * imageBytes);
        }
      });
      checkLabels(path, own, classes.length);
    }
    return Split.from({ pixels, labels, channels, size });
  };
  const train = await read(batches.train, batches.trainRecords);
  try {
    return makeDataset(batches.name, classes, train, await read(batches.test, batches.testRecords));
  } catch (error) {
    train.dispose();
    throw error;
  }
}
