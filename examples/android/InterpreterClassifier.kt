// Bitmap -> (label, probability), best first, by LiteRT 1.4 on the CPU, from Android 5 on

import android.graphics.Bitmap
import java.nio.FloatBuffer
import org.tensorflow.lite.Interpreter

class InterpreterClassifier(private val model: ModelFile) : AutoCloseable {
    private val interpreter = Interpreter(model.bytes, Interpreter.Options().setNumThreads(2))

    fun classify(image: Bitmap): List<Pair<String, Float>> {
        val probabilities = arrayOf(FloatArray(model.labels.size))
        interpreter.runSignature(
            mapOf("images" to FloatBuffer.wrap(model.pixels(image))),
            mapOf("probabilities" to probabilities),
        )
        return model.labels.zip(probabilities[0].asList()).sortedByDescending { it.second }
    }

    override fun close() = interpreter.close()
}
