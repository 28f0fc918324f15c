/** Words for the reading task: common English words of two to six letters, in capitals. */

const LIST = `
able acid acre aged aid aim air ale also ant apple april arch area arm army art ash ask atom aunt
baby back bad bag bake ball band bank bar barn base basin bat bath bay beach bead beam bean bear
beat bed bee beef bell belt bench bend best bike bill bird bite black blade block blood blue board
boat body bolt bone book boot born bowl box boy brain branch brass bread brick bridge brown brush
bucket bulb bus bush busy button cabin cable cage cake calm camel camera camp can candle cap car
card care cart case castle cat cause cave cell cent chain chair chalk cheap cheese chest chief
child chin church circle city clay clean clear clock cloth cloud club coal coast coat coffee coin
cold collar color comb cook copper copy cord cork corn cotton cough count cover cow crack credit
crew crime crop cross crowd crown cruel crush cry cup curve dance dark dawn day dead dear debt
deep deer desk dinner dirty dish dog donkey door double doubt down dragon drain drawer dream dress
drink drive drop dry duck dust duty eagle ear early earth east edge egg eight elbow empty end
engine equal error even event exit eye face fact fall false family far farm farmer fat father fear
feast field fig fight film final finger fire first fish five fix flag flame flat flight floor
flower fly fold food foot force forest fork form four fox frame free friend frog front fruit full
future game garden gas gate ghost gift girl give glass glove glue goal goat gold good grain grand
grape grass gray great green group growth guide gun hair half hall hammer hand happy harbor hard
hat head heart heat heavy help hen hill hip hold hole home honey hook horn horse hot hotel hour
house human humor hunt ice idea inch ink iron island jacket jam jar jelly jet jewel join joke
judge juice jump june jury keep kettle key kick kind king kiss kite knee knife knot ladder lake
lamp land large laugh law lead leaf left leg lemon letter level lid life lift light limit line
linen lion lip list lock log long loose loud love low lunch lung magic mail map marble march mark
market mask mass match meal meat medal metal middle milk mind mine minute mirror mist mix monkey
month moon motion mother motor mouse mouth move mud muscle music nail name narrow nation neck
needle nerve nest net new news night nine noise north nose note number nurse nut oak ocean odd
offer office oil old olive onion open orange orbit order oven owl oxygen page pain paint palm
paper park part party past path pearl pen pencil person phone photo piano pig pilot pin pine pink
pipe place plane plant plate play plug pocket poem point polish pool poor port pot potato powder
power price print prison prize pump pure purple push queen quick quiet quiz rabbit race radio rail
rain range rat ray ready real record red rest rice rich right ring river road rock rod roll roof
room root rope rose rough round rubber rule sad safe sail salt sand saw scale school screw sea
seat second secret seed send seven sex shade shadow shake sharp sheep shelf shell ship shirt shoe
shop short show shut side sign silk silver simple sister six size skin skirt sky sleep slip slow
small smell smile smoke smooth snake snow soap sock soft song sort sound soup south space spade
spark spoon spring square stage stamp star steam steel step stick stone stop store storm story
stove straw street stripe strong sugar suit sun swim table tail talk tall tank taste tax tea team
temple ten tent test thick thin thing three throat thumb ticket tie tiger time tin tired toe token
tomato tongue tool tooth top touch town toy trade train tray tree trick truck true trunk tube turn
twelve two twin uncle under unit valley van vase vessel view violet voice waiter walk wall war
warm wash waste watch water wave wax way weak week weight west wet wheel white wide wife wild wind
window wine wing winter wire wise wolf woman wood wool word work worm wrist year yellow yes young
zebra zero zone zoo`

/** All words, in capitals; each has two to six letters. */
export const WORDS: readonly string[] = LIST.trim()
  .split(/\s+/)
  .filter((word) => word.length >= 2 && word.length <= 6 && word !== 'sex')
  .map((word) => word.toUpperCase())

/**
 * Words never used in training: every eighth of the list. The evaluation draws half of its words
 * from here and reports them apart, so that reading is told from remembering.
 */
export const HELD_OUT_WORDS: readonly string[] = WORDS.filter((_, i) => i % 8 === 3)
export const TRAIN_WORDS: readonly string[] = WORDS.filter((_, i) => i % 8 !== 3)
