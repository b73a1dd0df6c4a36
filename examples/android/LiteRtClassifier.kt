// Bitmap -> (label, probability), best first, by LiteRT

import android.graphics.Bitmap
import org.tensorflow.lite.Interpreter

class LiteRtClassifier(private val model: ModelFile) : AutoCloseable {
    private val interpreter = Interpreter(model.bytes, Interpreter.Options().setNumThreads(2))

    fun classify(image: Bitmap): List<Pair<String, Float>> {
        val probabilities = arrayOf(FloatArray(model.labels.size))
        interpreter.runSignature(
            mapOf("images" to model.pixels(image)),
            mapOf("probabilities" to probabilities),
        )
        return model.labels.zip(probabilities[0].asList()).sortedByDescending { it.second }
    }

    override fun close() = interpreter.close()
}
